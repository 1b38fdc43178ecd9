// Mean-key latent attention in closed form: what it measures, that nothing is lost at full size, and what it chooses.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <complex>
#include <map>
#include <numeric>

#include "core/attention/grouped_query.h"
#include "core/base/random.h"
#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/compress/mean_key/fit.h"
#include "core/compress/pass.h"
#include "core/low_rank/exact_budget.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kMklaModel = 1e-6;  ///< of logits about 1; roots of covariances lose half the digits
constexpr double kMklaNumber = 1e-10;

std::unique_ptr<Pass> mkla_pass(Json config) {
  config["name"] = "mkla";
  return Registry<Pass>::instance().make(config, "compress[0]");
}

TokenRowList mkla_rows(const ModelSpec& spec, std::int64_t count, std::int64_t length) {
  const at::Tensor ids = test::random_ids(spec, count, length, 11);
  TokenRowList rows;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t* row = ids.const_data_ptr<std::int64_t>() + i * length;
    rows.emplace_back(row, row + length);
  }
  return rows;
}

PassReport convert_by_mkla(Decoder& decoder, const Decoder& source, const TokenRowList& rows, const Json& options) {
  PassInputs inputs;
  inputs.rows = &rows;
  inputs.source = &source;
  inputs.arithmetic = at::kDouble;
  return run_pass("mkla", *mkla_pass(options), decoder, inputs);
}

/// Numbers of slots and cached values with which nothing is lost.
Json mkla_full_size(const ModelSpec& spec) {
  const HeadFields heads = *spec.attention(0).heads();
  const std::int64_t keys = heads.kv_heads * heads.head_dim;
  return {{"pairs", keys / 2}, {"cached", keys + std::min(keys, spec.hidden)}};
}

class MklaOfKind : public testing::TestWithParam<std::string> {
 protected:
  MklaOfKind() : source(test::tiny_decoder(test::tiny_spec(GetParam()))), rows(mkla_rows(source.spec(), 12, 24)) {}
  double difference(const Decoder& decoder) const {
    const at::NoGradGuard off;
    const at::Tensor ids = test::random_ids(source.spec(), 2, 20);
    return test::largest_difference(decoder.forward(ids), source.forward(ids));
  }
  Decoder source;
  TokenRowList rows;
};

TEST_P(MklaOfKind, LosesNothingAtFullSize) {
  for (const char* layout : {"dual", "std", "plain"}) {
    for (const bool position : {true, false}) {
      Json options = mkla_full_size(source.spec());
      options.update({{"layout", layout}, {"position", position}, {"refit", false}});
      Decoder decoder = source.clone();
      const PassReport report = convert_by_mkla(decoder, source, rows, options);
      EXPECT_LT(difference(decoder), kMklaModel) << layout << " " << position;
      EXPECT_EQ(cached_elements(report.after.attention(0)), options["cached"].get<std::int64_t>());
      EXPECT_LT(report.layers[0].error.joint, kMklaModel);
    }
  }
}

TEST_P(MklaOfKind, LosesNothingAtFullSizeWhateverTheSwitches) {
  for (const Json& change :
       {Json{{"token_importance", false}}, Json{{"complex_slots", false}}, Json{{"sensitivity", false}},
        Json{{"gain", false}}, Json{{"metric", "query"}}, Json{{"metric", "none"}},
        Json{{"centred", false}, {"position", false}}, Json{{"refit", true}}, Json{{"spread", true}},
        Json{{"spread", true}, {"layout", "std"}}, Json{{"spread", true}, {"position", false}},
        Json{{"scores", Json::object()}}, Json{{"scores", {{"stride", 3}}}, {"layout", "std"}}}) {
    Json options = mkla_full_size(source.spec());
    options["refit"] = false;
    options.update(change);
    Decoder decoder = source.clone();
    convert_by_mkla(decoder, source, rows, options);
    EXPECT_LT(difference(decoder), kMklaModel) << change;
  }
}

TEST_P(MklaOfKind, ChoosesSlotsByTheErrorOfTheOutput) {
  Decoder decoder = source.clone();
  const PassReport chosen = convert_by_mkla(decoder, source, rows, {{"cached", 12}, {"refit", false}});
  for (const std::size_t layer : {0, 1}) {
    const std::int64_t slots = std::ssize(chosen.layers[layer].kept.front());
    for (std::int64_t other = 0; other <= 6; ++other) {
      Decoder with = source.clone();
      const PassReport report =
          convert_by_mkla(with, source, rows, {{"cached", 12}, {"pairs", other}, {"refit", false}});
      EXPECT_GE(report.layers[layer].error.joint, chosen.layers[layer].error.joint - kMklaNumber) << other;
      if (other != slots) continue;
      EXPECT_NEAR(report.layers[layer].error.joint, chosen.layers[layer].error.joint, kMklaNumber);
    }
  }
}

TEST_P(MklaOfKind, SpendsOneBudgetExactly) {
  Decoder even = source.clone(), shared = source.clone();
  convert_by_mkla(even, source, rows, {{"cached", 12}, {"refit", false}});
  const PassReport report = convert_by_mkla(
      shared, source, rows, {{"cached", 12}, {"budgets", "measured"}, {"widths", {8, 16}}, {"refit", false}});
  EXPECT_EQ(cached_elements(shared.spec()), 2 * 12);
  for (std::int64_t layer = 0; layer < 2; ++layer)
    EXPECT_THAT(cached_elements(report.after.attention(layer)), testing::AnyOf(8, 12, 16));
}

TEST_P(MklaOfKind, FitsOutputsAsThePassOfThatNameDoes) {
  const Json options = {{"cached", 12}, {"pairs", 2}};
  Json without = options;
  without["refit"] = false;
  Decoder together = source.clone(), apart = source.clone();
  convert_by_mkla(together, source, rows, options);
  convert_by_mkla(apart, source, rows, without);
  const double far = difference(apart);
  PassInputs inputs;
  inputs.rows = &rows;
  inputs.source = &source;
  run_pass("refit_output", *Registry<Pass>::instance().make({{"name", "refit_output"}}, "compress[1]"), apart, inputs);
  EXPECT_EQ(difference(apart), difference(together));
  EXPECT_NE(difference(apart), far);
}

INSTANTIATE_TEST_SUITE_P(Kinds, MklaOfKind, testing::Values("mha", "gqa", "biases", "window", "yarn"),
                         [](const auto& kind) { return kind.param; });

TEST(Mkla, ServableLayersAreThoseOfOneRotatedKey) {
  UniformModel model = test::tiny_model("gqa");
  model.heads.kv_heads = 1;
  const Decoder source = test::tiny_decoder(model.spec());
  const TokenRowList rows = mkla_rows(source.spec(), 12, 24);
  const Json options = {{"layout", "plain"}, {"servable", true}, {"refit", false}};
  Json full = options, small = options;
  full.update({{"cached", 16}, {"pairs", 4}});
  Decoder decoder = source.clone();
  convert_by_mkla(decoder, source, rows, full);
  const at::NoGradGuard off;
  const at::Tensor ids = test::random_ids(source.spec(), 2, 20);
  EXPECT_LT(test::largest_difference(decoder.forward(ids), source.forward(ids)), kMklaModel);
  small["cached"] = 8;
  Decoder narrow = source.clone();
  convert_by_mkla(narrow, source, rows, small);
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(narrow.spec().attention(layer).kind(), "latent");
    EXPECT_EQ(narrow.spec().attention(layer).fields()["kept_pairs"], narrow.spec().attention(0).fields()["kept_pairs"]);
    for (const Parameter& parameter : narrow.spec().attention(layer).parameters(narrow.spec()))
      EXPECT_NE(parameter.role, ParameterRole::kBias);
  }
  EXPECT_EQ(cached_elements(narrow.spec()), 16);
}

TEST(Mkla, RefusesWhatMakesNoSense) {
  const ModelSpec spec = test::tiny_spec("gqa");
  const auto refusal = [&](const Json& options, const ModelSpec& of) {
    return test::message_of<ConfigError>([&] { mkla_pass(options)->plan(of); });
  };
  EXPECT_EQ(refusal({{"cached", 60}}, spec), "compress[0].cached = 60: must be from 1 to 48");
  EXPECT_EQ(refusal({{"cached", 8}, {"pairs", 5}}, spec),
            "compress[0].pairs = 5: must be from 0 to 4 with 8 cached values in layer 0");
  EXPECT_THAT(refusal({{"cached", {8, 8, 8}}}, spec), HasSubstr("compress[0].cached: a list of 3 values"));
  EXPECT_THAT(refusal({{"pairs", "some"}}, spec), HasSubstr("compress[0].pairs: expected \"auto\""));
  EXPECT_THAT(refusal({{"centred", false}}, spec), HasSubstr("set position = false"));
  EXPECT_THAT(refusal({{"servable", true}}, spec), HasSubstr("layout = plain alone"));
  EXPECT_THAT(refusal({{"widths", {8}}}, spec), HasSubstr("budgets = measured"));
  EXPECT_THAT(refusal({{"layout", "plain"}, {"servable", true}, {"scores", Json::object()}}, spec),
              HasSubstr("compress[0].scores: servable layers have no maps of queries to fit"));
  for (const auto& [field, value, rule] :
       {std::tuple{"rows", -1, "must not be negative"}, {"stride", 0, "less than 1"}, {"damping", 0, "more than 0"}}) {
    EXPECT_THAT(refusal({{"scores", {{field, value}}}}, spec), HasSubstr(cat("compress[0].scores.", field)));
    EXPECT_THAT(refusal({{"scores", {{field, value}}}}, spec), HasSubstr(rule));
  }
  EXPECT_THAT(refusal({{"cached", 8}}, test::tiny_spec("qk_norm")), HasSubstr("QK-norm"));
  EXPECT_THAT(refusal({{"cached", 8}, {"layout", "plain"}, {"servable", true}}, test::tiny_spec("biases")),
              HasSubstr("no biases of keys and values"));
}

/// The moments by their definition, token by token.
TEST(MeanKeyMoments, AreWhatTheyAreSaidToBe) {
  const at::NoGradGuard off;
  const Decoder source = test::tiny_decoder(test::tiny_spec("gqa"));
  const GroupedQueryAttention& attention = *as_grouped_query(*source.layers[0].attention);
  const HeadFields heads = attention.heads();
  const std::int64_t length = 9, width = heads.head_dim;
  const at::Tensor frequencies = source.spec().rotary().frequencies(length);
  MeanKeyGathering gathering(heads, softmax_scale(source.spec(), heads), attention.weights().output.to_dense(),
                             frequencies, 2, true);
  std::vector<Tap> taps = MeanKeyGathering::taps();
  taps.push_back(Tap::kAttentionWeights);
  std::map<Tap, at::Tensor> seen;
  const TokenRowList rows = mkla_rows(source.spec(), 3, length);
  LayerWalk(source, rows, {}).advance(taps, [&](std::size_t, Tap tap, const at::Tensor& tensor) {
    gathering.see(tap, tensor);
    seen[tap] = tensor;
  });
  const MeanKeyMoments found = gathering.result();

  at::Tensor mass = at::zeros({2, length}, at::kDouble), queries = at::zeros({width, width}, at::kDouble);
  const std::int64_t head = 3, kv_head = head / heads.group();
  double logit_weight = 0, value_weight = 0;
  std::complex<double> gain = 0;
  const double frequency = frequencies[1].item<double>();
  for (std::int64_t row = 0; row < 3; ++row) {
    for (std::int64_t i = 1; i < length; ++i) {
      const at::Tensor query = seen[Tap::kQuery][row][head][i];
      queries += at::outer(query, query) / (3.0 * static_cast<double>(length - 1));
    }
  }
  for (std::int64_t row = 0; row < 2; ++row) {
    for (std::int64_t h = 0; h < heads.heads; ++h) {
      const at::Tensor map = attention.weights().output.to_dense().narrow(1, h * width, width);
      const at::Tensor values = at::matmul(seen[Tap::kValue][row][h / heads.group()], map.t());
      const at::Tensor weights = seen[Tap::kAttentionWeights][row][h];
      for (std::int64_t i = 0; i < length; ++i) {
        const at::Tensor mean = at::mv(values.t(), weights[i]);
        for (std::int64_t j = 0; j <= i; ++j) {
          const double p = weights[i][j].item<double>();
          if (h == head && i > 0) gain += p * std::polar(1.0, frequency * static_cast<double>(i - j));
          if (j == 0) continue;
          const double change = p * p * (values[j] - mean).square().sum().item<double>();
          mass[row][j] += change;
          if (h == head) {
            logit_weight += change;
            value_weight += p * p;
          }
        }
      }
    }
  }
  const double count = 2.0 * static_cast<double>(length - 1);
  EXPECT_LT(test::largest_difference(found.queries[head], queries), kMklaNumber);
  EXPECT_NEAR(found.logit_weight[head].item<double>(), logit_weight / count, kMklaNumber);
  EXPECT_NEAR(found.value_weight[head].item<double>(), value_weight / count, kMklaNumber);
  EXPECT_NEAR(at::real(found.gain)[head][1].item<double>(), gain.real() / count, kMklaNumber);
  EXPECT_NEAR(at::imag(found.gain)[head][1].item<double>(), gain.imag() / count, kMklaNumber);
  EXPECT_EQ(kv_head, 1);
  const at::Tensor inputs = seen[Tap::kAttentionInput].narrow(0, 0, 2).flatten(0, 1);
  const at::Tensor shares = (mass / mass.sum()).flatten().unsqueeze(1), mean = (inputs * shares).sum(0);
  EXPECT_LT(test::largest_difference(found.mean, mean), kMklaNumber);
  const at::Tensor apart = inputs - mean;
  EXPECT_LT(test::largest_difference(found.covariance, at::matmul((apart * shares).t(), apart)), kMklaNumber);
}

/// No latent of as many elements is nearer, in the metric, than that of the closed form (Eckart and Young).
TEST(MeanKeyFit, NoOtherLatentIsNearer) {
  const at::NoGradGuard off;
  const Decoder source = test::tiny_decoder(test::tiny_spec("gqa"));
  const GroupedQueryAttention& attention = *as_grouped_query(*source.layers[0].attention);
  MeanKeyGathering gathering(attention.heads(), 1, attention.weights().output.to_dense(),
                             source.spec().rotary().frequencies(1), 8, true);
  const TokenRowList rows = mkla_rows(source.spec(), 8, 20);
  LayerWalk(source, rows, {}).advance(MeanKeyGathering::taps(), [&](std::size_t, Tap tap, const at::Tensor& tensor) {
    gathering.see(tap, tensor);
  });
  const MeanKeyMoments moments = gathering.result();
  const HeadWeights weights = head_weights(attention);
  MeanKeyFitOptions options;
  options.metric = MeanKeyMetric::kNone;
  MeanKeyFit fit(attention.heads(), weights, moments, options);
  const auto norm = [&](const at::Tensor& x) { return (at::matmul(x, moments.covariance) * x).sum().sqrt(); };
  const at::Tensor wanted = at::cat({weights.key / norm(weights.key), weights.value / norm(weights.value)});
  /// What the best maps from the latent W x leave of the squared norm 2.
  const auto lost = [&](const at::Tensor& down) {
    const at::Tensor seen = at::matmul(down, moments.covariance), gram = at::matmul(seen, down.t());
    const at::Tensor rest = wanted - at::matmul(at::matmul(at::matmul(wanted, seen.t()), at::linalg_inv(gram)), down);
    return norm(rest).square().item<double>();
  };
  RandomStream stream(5, "latents");
  double before = 2;
  for (const std::int64_t latent : {12, 5}) {
    const MeanKeyMaps maps = fit.maps(0, latent);
    const double least = lost(maps.latent_down);
    double kept = 0;
    for (const double value : maps.singular_values) kept += value * value;
    EXPECT_NEAR(least, 2 - kept, 1e-8);
    EXPECT_LT(least, before);
    for (int i = 0; i < 20; ++i) {
      at::Tensor other = maps.latent_down.clone();
      for (std::int64_t k = 0; k < other.numel(); ++k) other.view(-1)[k] += 0.1 * stream.normal();
      EXPECT_GT(lost(other), least);
    }
    at::Tensor rows_moment = at::matmul(at::matmul(maps.latent_down, moments.covariance), maps.latent_down.t());
    EXPECT_LT(test::largest_difference(rows_moment, at::eye(latent, at::kDouble)), 1e-8) << "of unit variance";
    const at::Tensor rest = at::cat({maps.key_up.flatten(0, 1), maps.value_up.flatten(0, 1)});
    EXPECT_EQ(rest.sizes(), at::IntArrayRef({2 * weights.key.size(0), latent}));
  }
}

TEST(MeanKeyFit, SlotsRebuildKeysMoreAndMore) {
  const at::NoGradGuard off;
  const Decoder source = test::tiny_decoder(test::tiny_spec("mha"));
  const TokenRowList rows = mkla_rows(source.spec(), 12, 24);
  double before = 1e9;
  for (const std::int64_t slots : {2, 6, 10, 16}) {
    Decoder decoder = source.clone();
    const PassReport report =
        convert_by_mkla(decoder, source, rows, {{"cached", 32 + 2 * slots}, {"pairs", slots}, {"refit", false}});
    EXPECT_LT(report.layers[0].error.joint, before) << slots;
    before = report.layers[0].error.joint;
  }
  EXPECT_LT(before, kMklaModel);
}

TEST(ExactBudget, IsTheLeastOfAllWays) {
  RandomStream stream(9, "budgets");
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<std::vector<SizedLoss>> layers(4);
    std::int64_t total = 0;
    for (std::vector<SizedLoss>& choices : layers) {
      for (std::int64_t size = 1; size <= 4; ++size)
        choices.push_back({3 * size + static_cast<std::int64_t>(stream.below(3)), std::abs(stream.normal())});
      total += choices[stream.below(4)].size;
    }
    double least = 1e9;
    for (std::size_t i = 0; i < 256; ++i) {
      std::int64_t size = 0;
      double loss = 0;
      for (std::size_t layer = 0; layer < 4; ++layer) {
        const SizedLoss& choice = layers[layer][i >> (2 * layer) & 3];
        size += choice.size;
        loss += choice.loss;
      }
      if (size == total) least = std::min(least, loss);
    }
    const std::vector<std::size_t> taken = spend_exactly(layers, total);
    ASSERT_EQ(taken.size(), 4u);
    std::int64_t size = 0;
    double loss = 0;
    for (std::size_t layer = 0; layer < 4; ++layer) {
      size += layers[layer][taken[layer]].size;
      loss += layers[layer][taken[layer]].loss;
    }
    EXPECT_EQ(size, total);
    EXPECT_NEAR(loss, least, 1e-12);
  }
  using Choices = std::vector<SizedLoss>;
  const std::vector<Choices> two = {Choices{SizedLoss{2, 0}}, Choices{SizedLoss{4, 0}}};
  EXPECT_EQ(spend_exactly(two, 6).size(), 2u);
  EXPECT_TRUE(spend_exactly(two, 5).empty());
  EXPECT_TRUE(spend_exactly(two, -1).empty());
}

}  // namespace
}  // namespace mla
