// Distance between two models, against the definition token by token, and against stored predictions.
#include "core/evaluate/divergence.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <numeric>

#include "core/base/error.h"
#include "core/evaluate/layer_divergence.h"
#include "core/evaluate/perplexity.h"
#include "core/model/safetensors.h"
#include "core/ops/softmax_divergence.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::DoubleNear;
using testing::HasSubstr;
using testing::Pointwise;

constexpr double kDivergenceRounding = 1e-11;
constexpr double kFloatNllRounding = 1e-6;

std::vector<std::int32_t> random_sequence(std::int64_t length, std::uint64_t seed) {
  const at::Tensor ids = test::random_ids(test::tiny_spec("gqa"), 1, length, seed);
  return {ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + length};
}

/// Two models whose predictions differ a little, and a text in windows that overlap.
class Divergence : public testing::Test {
 protected:
  Divergence() {
    model_.visit_parameters([&](const std::string&, at::Tensor& weight) { weight = weight + 0.05 * other(weight); });
  }
  static at::Tensor other(const at::Tensor& weight) {
    return at::sin(at::arange(weight.numel(), weight.options())).view(weight.sizes());
  }

  std::vector<std::vector<std::int32_t>> text_ = {
      random_sequence(29, 1), {}, random_sequence(12, 2), random_sequence(1, 3)};
  PerplexityOptions options_{10, 4, 40};
  Decoder source_ = test::tiny_decoder(test::tiny_spec("gqa")), model_ = test::tiny_decoder(test::tiny_spec("gqa"));
};

TEST_F(Divergence, FollowsTheDefinition) {
  const at::NoGradGuard no_grad;
  std::int64_t reported = 0;
  const TokenDivergence result =
      divergence(source_, model_, text_, options_, [&](std::int64_t tokens) { reported += tokens; });
  std::vector<double> kl, agrees;
  for (const auto& row : text_) {
    for (std::int64_t t = 1; t < std::ssize(row); ++t) {
      std::int64_t begin = 0;
      while (begin + 10 <= t) begin += 4;  // the first window that holds token t
      const at::Tensor ids =
          at::tensor(std::vector<std::int64_t>(row.begin() + begin, row.begin() + t), at::kLong).unsqueeze(0);
      const at::Tensor p = source_.forward(ids)[0][-1].log_softmax(0), q = model_.forward(ids)[0][-1].log_softmax(0);
      kl.push_back((p.exp() * (p - q)).sum().item<double>());
      agrees.push_back(p.argmax().item<std::int64_t>() == q.argmax().item<std::int64_t>() ? 1 : 0);
    }
  }
  EXPECT_THAT(result.kl, Pointwise(DoubleNear(kDivergenceRounding), kl));
  EXPECT_EQ(result.agrees, agrees);
  EXPECT_THAT(result.source_nll, Pointwise(DoubleNear(kDivergenceRounding), perplexity(source_, text_, options_).nll));
  EXPECT_THAT(result.nll, Pointwise(DoubleNear(kDivergenceRounding), perplexity(model_, text_, options_).nll));
  EXPECT_EQ(reported, std::ssize(kl));
  EXPECT_GT(*std::max_element(kl.begin(), kl.end()), 1e-3);
}

TEST_F(Divergence, OfAModelFromItselfIsExactlyZero) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const Decoder model = test::tiny_decoder(test::tiny_spec("gqa"), type);
    const TokenDivergence result = divergence(model, model.clone(), text_, options_);
    EXPECT_THAT(result.kl, testing::Each(0.0));
    EXPECT_THAT(result.agrees, testing::Each(1.0));
  }
}

// In float32 the plain sum of p (log p - log q) loses a KL of 1e-9 in rounding: here it keeps three digits.
TEST_F(Divergence, SmallOnesSurviveRounding) {
  const at::Tensor logits = 3 * at::sin(at::arange(4096, at::kDouble)).view({2, 2048});
  const at::Tensor shifted = logits + 1e-4 * at::cos(at::arange(4096, at::kDouble)).view({2, 2048});
  const at::Tensor targets = at::tensor({3, 5}, at::kLong);
  const at::Tensor a = logits.to(at::kFloat), b = shifted.to(at::kFloat);
  const auto narrow = softmax_divergence(a, b, targets),
             wide = softmax_divergence(a.to(at::kDouble), b.to(at::kDouble), targets);
  const double expected = wide.kl[0].item<double>();
  EXPECT_GT(expected, 1e-10);
  EXPECT_LT(expected, 1e-8);
  EXPECT_NEAR(narrow.kl[0].item<double>() / expected, 1, 1e-3);
  const at::Tensor p = a.to(at::kDouble).log_softmax(1), q = b.to(at::kDouble).log_softmax(1);
  EXPECT_NEAR(wide.kl[1].item<double>(), (p.exp() * (p - q)).sum(1)[1].item<double>(), 1e-15);
}

TEST_F(Divergence, LargeOnesAreRightInBothPrecisions) {
  const at::Tensor logits = 40 * at::sin(at::arange(200, at::kDouble)).view({2, 100}), other = -logits.flip(1);
  const at::Tensor targets = at::tensor({3, 5}, at::kLong), p = logits.log_softmax(1), q = other.log_softmax(1);
  const at::Tensor expected = (p.exp() * (p - q)).sum(1);
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto result = softmax_divergence(logits.to(type), other.to(type), targets);
    EXPECT_TRUE(at::allclose(result.kl, expected, type == at::kFloat ? 1e-5 : 1e-12)) << result.kl << expected;
  }
}

/// What rounding may add to a token's KL, as the format states it.
double rounding_of(const StoredDistributions& stored, double kl) {
  const double error = stored.largest_error();
  return error * (kl + 2 / std::numbers::e) + error * error * std::exp(2 * error) + 1e-9;
}

TEST_F(Divergence, OfStoredPredictionsIsTheSameWhenAllAreKept) {
  const TokenDivergence live = divergence(source_, model_, text_, options_);
  const StoredDistributions stored = store_distributions(source_, text_, options_, 0);
  EXPECT_TRUE(stored.whole());
  const TokenDivergence result = divergence(stored, model_, text_, options_);
  for (std::size_t i = 0; i < live.kl.size(); ++i) {
    EXPECT_NEAR(result.kl[i], live.kl[i], rounding_of(stored, live.kl[i]));
  }
  EXPECT_EQ(result.agrees, live.agrees);
  EXPECT_THAT(result.source_nll, Pointwise(DoubleNear(kFloatNllRounding), live.source_nll));
  EXPECT_THAT(result.nll, Pointwise(DoubleNear(kDivergenceRounding), live.nll));
}

TEST_F(Divergence, OfKeptPredictionsFallsShortByTheTail) {
  const TokenDivergence live = divergence(source_, model_, text_, options_);
  const auto mean = [](const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  };
  double before = 0;
  for (const std::int64_t kept : {1, 5, 20, 49}) {
    const StoredDistributions stored = store_distributions(source_, text_, options_, kept);
    const TokenDivergence result = divergence(stored, model_, text_, options_);
    for (std::size_t i = 0; i < live.kl.size(); ++i)
      EXPECT_LE(result.kl[i], live.kl[i] + rounding_of(stored, live.kl[i])) << kept;
    EXPECT_GT(mean(result.kl), before) << "more kept tokens see more of it";
    before = mean(result.kl);
    EXPECT_EQ(result.agrees, live.agrees);
  }
  EXPECT_NEAR(before, mean(live.kl), 1e-3) << "one token alone has no divergence within it";
}

// The definition: one layer's attention exchanged, everything else the source's.
TEST_F(Divergence, OfSingleLayersIsThatOfTheModelsWithOneExchanged) {
  // A conversion changes attention alone.
  Decoder converted = source_.clone();
  for (std::size_t i = 0; i < converted.layers.size(); ++i)
    converted.layers[i].attention = model_.layers[i].attention->clone();
  const auto layers = layer_divergence(source_, converted, text_, options_);
  ASSERT_EQ(layers.size(), source_.layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    Decoder exchanged = source_.clone();
    exchanged.layers[i].attention = converted.layers[i].attention->clone();
    const TokenDivergence expected = divergence(source_, exchanged, text_, options_);
    EXPECT_THAT(layers[i].kl, Pointwise(DoubleNear(kDivergenceRounding), expected.kl));
    EXPECT_THAT(layers[i].nll, Pointwise(DoubleNear(kDivergenceRounding), expected.nll));
    EXPECT_EQ(layers[i].agrees, expected.agrees);
    EXPECT_GT(*std::max_element(expected.kl.begin(), expected.kl.end()), 1e-6);
  }
}

TEST_F(Divergence, StoredPredictionsComeBackFromTheirFile) {
  const test::TemporaryFolder folder;
  for (const std::int64_t kept : {0, 7}) {
    StoredDistributions stored = store_distributions(source_, text_, options_, kept);
    stored.model = "a source";
    write_distributions(folder / "stored.safetensors", stored);
    const StoredDistributions read = read_distributions(folder / "stored.safetensors");
    EXPECT_EQ(read.model, "a source");
    EXPECT_EQ(read.kept(), kept == 0 ? 50 : 7);
    EXPECT_EQ(divergence(read, model_, text_, options_).kl, divergence(stored, model_, text_, options_).kl);
  }
}

TEST_F(Divergence, RefusesWhatCannotBeCompared) {
  const StoredDistributions stored = store_distributions(source_, text_, options_, 7);
  const auto message = [](auto&& action) { return test::message_of<DataError>(action); };
  EXPECT_EQ(message([&] {
              divergence(stored, model_, text_, {10, 5, 40});
            }),
            "the source's distributions were stored for windows of 10 tokens at a stride of 4, not 10 at 5");
  auto other = text_;
  other[0][3] = (other[0][3] + 1) % 50;
  EXPECT_THAT(message([&] { divergence(stored, model_, other, options_); }),
              HasSubstr("stored for another text: 39 scored tokens, this one has 39, and other ids"));
  ModelSpec larger = test::tiny_spec("gqa");
  larger.vocabulary = 60;
  const Decoder stranger = test::tiny_decoder(larger);
  EXPECT_EQ(message([&] { divergence(source_, stranger, text_, options_); }),
            "the source model has 50 tokens and the model 60: only models of one vocabulary can be compared");
  EXPECT_THAT(message([&] {
                divergence(source_, model_, {{1}, {}}, options_);
              }),
              HasSubstr("expected a sequence of at least 2 tokens"));
}

TEST_F(Divergence, DamagedFilesAreNamed) {
  const test::TemporaryFolder folder;
  const auto path = folder / "stored.safetensors";
  const auto message = [&] { return test::message_of<DataError>([&] { read_distributions(path); }); };
  write_safetensors(path, {{"codes", at::zeros({2, 2}, at::kShort)}});
  EXPECT_THAT(message(), HasSubstr("stored.safetensors: holds no stored distributions"));
  StoredDistributions stored = store_distributions(source_, text_, options_, 7);
  stored.step = stored.step.narrow(0, 0, 5);
  write_distributions(path, stored);
  EXPECT_THAT(message(), HasSubstr("step is Float [5], expected Float [39]"));
  stored = store_distributions(source_, text_, options_, 7);
  stored.ids[3][2] = 50;
  write_distributions(path, stored);
  EXPECT_THAT(message(), HasSubstr("ids lie outside 0..49"));
}

}  // namespace
}  // namespace mla
