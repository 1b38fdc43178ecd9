// The loss's value and gradient, through source and latent attention.
#include "core/train/loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/train/trainable.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kLossRounding = 1e-11;
constexpr double kStep = 1e-5;                 // of the central difference, whose error is of the order kStep^2
constexpr double kDifferenceTolerance = 1e-6;  // relative to max(1, |gradient|); gradients here are about 1
constexpr int kProbesPerParameter = 4;

Batch unequal_batch() {
  RowBatches source({{3, 14, 15, 9, 26, 5, 35, 8}, {9, 7, 9, 3, 2}, {38, 46, 26, 43, 38, 32}});
  return source.next(3);
}

/// The definition: all logits at once.
at::Tensor plain_loss(const Decoder& decoder, const Batch& batch) {
  return at::cross_entropy_loss(decoder.forward(batch.ids).flatten(0, 1), batch.targets.flatten(), {},
                                at::Reduction::Sum, kIgnoredTarget);
}

Linear random_projection(RandomStream& stream, std::int64_t rows, std::int64_t columns) {
  at::Tensor weight = at::empty({rows, columns}, at::kDouble);
  for (std::int64_t i = 0; i < weight.numel(); ++i) weight.mutable_data_ptr<double>()[i] = 0.3 * stream.normal();
  return Linear(weight);
}

/// MHA2MLA's layout with other pairs in each KV head: a latent shared by keys and values, or split between them.
Decoder latent_decoder(bool split) {
  const ModelSpec spec = test::tiny_spec("gqa");
  Decoder decoder = test::tiny_decoder(spec);
  RandomStream stream(11, "latent");
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) {
    const HeadFields shape = *spec.attention(static_cast<std::int64_t>(i)).heads();
    LatentLayout layout;
    layout.kept = {{0}, {2}};
    layout.content_width = 6;
    layout.value_width = 8;
    layout.latent_width = 7;
    layout.key = split ? LatentSlice{0, 3} : LatentSlice{0, 7};
    layout.value = split ? LatentSlice{3, 4} : LatentSlice{0, 7};
    LatentAttention::Weights weights;
    weights.query = random_projection(stream, shape.heads * 8, spec.hidden);
    weights.rope_key = random_projection(stream, shape.kv_heads * 2, spec.hidden);
    weights.down = random_projection(stream, 7, spec.hidden);
    weights.key_up = random_projection(stream, shape.kv_heads * 6, layout.key.width);
    weights.value_up = random_projection(stream, shape.kv_heads * 8, layout.value.width);
    weights.output = random_projection(stream, spec.hidden, shape.heads * 8);
    decoder.replace_attention(i, std::make_unique<LatentAttention>(spec, shape, layout, std::move(weights)));
  }
  return decoder;
}

Decoder make_decoder(const std::string& kind) {
  if (kind == "shared_attention") return test::tiny_decoder(test::spec_with_attention(kind));
  if (kind == "latent_joint" || kind == "latent_split") return latent_decoder(kind == "latent_split");
  return test::tiny_decoder(test::tiny_spec(kind));
}

double central_difference(const Decoder& decoder, const Batch& batch, double& element) {
  const at::NoGradGuard no_grad;
  const double value = element;
  element = value + kStep;
  const double above = plain_loss(decoder, batch).item<double>();
  element = value - kStep;
  const double below = plain_loss(decoder, batch).item<double>();
  element = value;
  return (above - below) / (2 * kStep);
}

class LossGradient : public testing::TestWithParam<std::string> {};

TEST_P(LossGradient, AgreesWithFiniteDifferences) {
  Decoder decoder = make_decoder(GetParam());
  const Batch batch = unequal_batch();
  TrainableParameters parameters(decoder, "all", "test");
  accumulate_gradients(decoder, batch, 1);
  RandomStream stream(1, "probes");
  for (const auto& [name, parameter] : parameters.named()) {
    ASSERT_TRUE(parameter.grad().defined()) << name;
    const at::Tensor gradient = parameter.grad().contiguous(), values = parameter.detach();
    for (int probe = 0; probe < kProbesPerParameter; ++probe) {
      const std::uint64_t index = stream.below(static_cast<std::uint64_t>(values.numel()));
      const double found = gradient.const_data_ptr<double>()[index];
      const double expected = central_difference(decoder, batch, values.mutable_data_ptr<double>()[index]);
      EXPECT_NEAR(found, expected, kDifferenceTolerance * std::max(1.0, std::abs(expected))) << name << " " << index;
    }
  }
}

TEST_P(LossGradient, ChunksAndScaleChangeNothingElse) {
  Decoder decoder = make_decoder(GetParam());
  const Batch batch = unequal_batch();
  TrainableParameters parameters(decoder, "all", "test");
  const at::Tensor plain = plain_loss(decoder, batch);
  (plain * 0.5).backward();
  std::vector<at::Tensor> expected;
  for (const auto& [name, parameter] : parameters.named()) expected.push_back(parameter.grad().clone());
  for (const std::int64_t positions : {1, 4, 1000}) {
    parameters.zero_gradients();
    const double loss =
        accumulate_gradients(decoder, batch, 0.5, {}, nullptr, positions * decoder.spec().vocabulary).item<double>();
    EXPECT_NEAR(loss, plain.item<double>(), kLossRounding * std::abs(loss));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_LT(test::largest_difference(parameters.named()[i].second.grad(), expected[i]), kLossRounding)
          << parameters.named()[i].first << ", " << positions << " positions at once";
    }
  }
}

TEST_P(LossGradient, CheckpointingChangesNoBit) {
  Decoder decoder = make_decoder(GetParam());
  const Batch batch = unequal_batch();
  TrainableParameters parameters(decoder, "all", "test");
  const double loss = accumulate_gradients(decoder, batch, 0.5).item<double>();
  std::vector<at::Tensor> expected;
  for (const auto& [name, parameter] : parameters.named()) expected.push_back(parameter.grad().clone());
  parameters.zero_gradients();
  decoder.checkpoint_activations = true;
  EXPECT_EQ(accumulate_gradients(decoder, batch, 0.5).item<double>(), loss);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(at::equal(parameters.named()[i].second.grad(), expected[i])) << parameters.named()[i].first;
  }
}

// One row of three documents, and each document alone: same loss, same gradients.
TEST_P(LossGradient, DocumentsOfARowAreReadAsIfAlone) {
  Decoder decoder = make_decoder(GetParam());
  TrainableParameters parameters(decoder, "all", "test");
  const std::vector<std::vector<std::int32_t>> texts = {{3, 14, 15, 9, 26}, {9, 7}, {38, 46, 26, 43, 38, 32}};
  std::vector<std::int64_t> ids, targets, documents;
  double separate = 0;
  for (const auto& text : texts) {
    RowBatches source({text});
    separate += accumulate_gradients(decoder, source.next(1), 1).item<double>();
    const auto begin = static_cast<std::int64_t>(ids.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
      ids.push_back(text[i]);
      targets.push_back(i + 1 < text.size() ? text[i + 1] : kIgnoredTarget);
      documents.push_back(begin);
    }
  }
  std::vector<at::Tensor> expected;
  for (const auto& [name, parameter] : parameters.named()) expected.push_back(parameter.grad().clone());
  parameters.zero_gradients();
  Batch packed;
  packed.ids = at::tensor(ids, at::kLong).unsqueeze(0);
  packed.targets = at::tensor(targets, at::kLong).unsqueeze(0);
  EXPECT_GT(std::abs(accumulate_gradients(decoder, packed, 1).item<double>() - separate),
            1e-3);  // undivided, it is another text
  parameters.zero_gradients();
  packed.documents = at::tensor(documents, at::kLong).unsqueeze(0);
  EXPECT_NEAR(accumulate_gradients(decoder, packed, 1).item<double>(), separate, kLossRounding * separate);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LT(test::largest_difference(parameters.named()[i].second.grad(), expected[i]), 10 * kLossRounding)
        << parameters.named()[i].first;
  }
}

TEST_P(LossGradient, OfAMixtureWithATeacherAgreesWithFiniteDifferences) {
  Decoder decoder = make_decoder(GetParam());
  const Decoder teacher = test::tiny_decoder(test::tiny_spec("mha"), at::kDouble, 5);
  const Batch batch = unequal_batch();
  const LossOptions options{0.3, 0.6, 1.7, 0.8};
  const auto loss = [&] { return accumulate_gradients(decoder, batch, 1, options, &teacher).item<double>(); };
  std::vector<at::Tensor> gradients, values;
  {
    TrainableParameters parameters(decoder, "all", "test");
    loss();
    for (const auto& [name, parameter] : parameters.named()) {
      gradients.push_back(parameter.grad().contiguous());
      values.push_back(parameter.detach());
    }
  }
  RandomStream stream(2, "probes");
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint64_t index = stream.below(static_cast<std::uint64_t>(values[i].numel()));
    double& element = values[i].mutable_data_ptr<double>()[index];
    const double value = element, found = gradients[i].const_data_ptr<double>()[index];
    element = value + kStep;
    const double above = loss();
    element = value - kStep;
    const double expected = (above - loss()) / (2 * kStep);
    element = value;
    EXPECT_NEAR(found, expected, kDifferenceTolerance * std::max(1.0, std::abs(expected))) << "parameter " << i;
  }
}

TEST_P(LossGradient, OfDistillingFromItselfIsZero) {
  Decoder decoder = make_decoder(GetParam());
  const Decoder teacher = decoder.clone();
  TrainableParameters parameters(decoder, "all", "test");
  EXPECT_NEAR(accumulate_gradients(decoder, unequal_batch(), 1, {0, 1, 2, 1}, &teacher).item<double>(), 0,
              kLossRounding);
  for (const auto& [name, parameter] : parameters.named()) {
    EXPECT_LT(parameter.grad().abs().max().item<double>(), kLossRounding) << name;
  }
}

TEST(LossOptions, RefusesWhatCannotBeMinimised) {
  const auto message = [](LossOptions options) {
    return test::message_of<ConfigError>([&] { options.validate("loss"); });
  };
  EXPECT_EQ(message({}), "no error");
  EXPECT_EQ(message({0, 0, 1, 0}), "loss: every weight is 0");
  EXPECT_EQ(message({1, -1, 1, 0}), "loss.distillation: -1 is not a number >= 0");
  EXPECT_EQ(message({1, 1, 0, 0}), "loss.temperature: 0 is not a number > 0");
}

TEST(LossOptions, ATeacherMustSpeakTheSameVocabulary) {
  ModelSpec other = test::tiny_spec("mha");
  other.vocabulary = 60;
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("mha")), teacher = test::tiny_decoder(other);
  EXPECT_EQ(test::message_of<ConfigError>([&] {
              accumulate_gradients(decoder, unequal_batch(), 1, {0, 1, 1, 0}, &teacher);
            }),
            "loss: the teacher has a vocabulary of 60, the model of 50");
}

INSTANTIATE_TEST_SUITE_P(Kinds, LossGradient,
                         testing::Values("mha", "gqa", "biases", "qk_norm", "window", "latent_joint", "latent_split",
                                         "shared_attention"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace mla
