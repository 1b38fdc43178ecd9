// What a calibration gathers at the taps of a forward pass.
#include "core/compress/calibration/statistics.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kSameStatistic = 1e-12;

using Rows = std::vector<std::vector<std::int32_t>>;

Rows some_rows() { return {{3, 14, 15, 9, 26}, {5, 35, 8, 9, 7}, {9, 3, 2, 38}, {46, 26}}; }

/// All tokens that the tap shows in a layer, row by row without batches, [tokens, width]; heads one after the other.
at::Tensor shown(const Decoder& decoder, Tap tap, std::int64_t layer) {
  std::vector<at::Tensor> parts;
  const Observer observer{{tap}, [&](Tap, std::int64_t at, const at::Tensor& tensor) {
                            const at::Tensor rows = tensor.dim() == 4 ? tensor.transpose(1, 2).flatten(2) : tensor;
                            if (at == layer) parts.push_back(rows.flatten(0, 1));
                          }};
  for (const auto& row : some_rows()) {
    const std::vector<std::int64_t> wide(row.begin(), row.end());
    decoder.observe(at::tensor(wide, at::kLong).unsqueeze(0), observer);
  }
  return at::cat(parts);
}

TEST(Reducers, AreTheseOnes) {
  EXPECT_THAT(Registry<Reducer>::instance().names(),
              testing::ElementsAre("by_distance", "cross_moment", "head_moments", "mean", "mean_absolute",
                                   "mean_square", "pair_norms", "quantiles", "samples", "second_moment", "similarity"));
}

TEST(Statistics, AreTheDefinitionWhateverTheBatches) {
  const c10::InferenceMode inference;
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const Requirement output{Tap::kAttentionContext, "second_moment"};
  const Requirements wanted{kQueryPairNorms, kKeyPairNorms, kInputMoment, output};
  std::int64_t told = 0;
  const Statistics statistics =
      calibrate(decoder, some_rows(), wanted, {.batch_tokens = 5}, [&](std::int64_t tokens) { told += tokens; });
  EXPECT_EQ(statistics.tokens, 16);
  EXPECT_EQ(told, 16);
  EXPECT_TRUE(statistics.covers(wanted));
  for (std::int64_t layer = 0; layer < decoder.spec().layer_count(); ++layer) {
    for (const Requirement& moment : {kInputMoment, output}) {
      const at::Tensor rows = shown(decoder, moment.tap, layer);
      EXPECT_LT(test::largest_difference(statistics.at(moment, layer), at::mm(rows.t(), rows) / 16), kSameStatistic);
    }
    EXPECT_EQ(statistics.at(kQueryPairNorms, layer).sizes(), (at::IntArrayRef{4, 4}));
    EXPECT_EQ(statistics.at(kKeyPairNorms, layer).sizes(), (at::IntArrayRef{2, 4}));
  }
  const Statistics at_once = calibrate(decoder, some_rows(), wanted, {}, {});
  for (const auto& [key, value] : statistics.values)
    EXPECT_LT(test::largest_difference(at_once.values.at(key), value), kSameStatistic);
}

TEST(Statistics, EveryLinearMapsInputIsShown) {
  const c10::InferenceMode inference;
  for (const char* kind : {"grouped_query", "latent", "mfa", "shared_attention"}) {
    Decoder decoder = test::tiny_decoder(test::spec_with_attention(kind));
    TensorMap weights;
    decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) { weights[name] = tensor; });
    std::int64_t maps = 0;
    for (std::int64_t layer = 0; layer <= decoder.spec().layer_count(); ++layer) {
      const bool after = layer == decoder.spec().layer_count();
      for (const ModelParameter& parameter :
           after ? model_parameters(decoder.spec()) : layer_parameters(decoder.spec(), layer)) {
        if (after && parameter.name != "lm_head.weight") continue;
        const bool linear = parameter.shape.size() == 2 && parameter.role != ParameterRole::kNorm;
        ASSERT_EQ(parameter.input.has_value(), linear) << kind << " " << parameter.name;
        if (!linear) continue;
        ++maps;
        const at::Tensor rows = shown(decoder, *parameter.input, layer);
        ASSERT_EQ(rows.size(0), 16) << kind << " " << parameter.name;
        const bool slice =
            parameter.name.find("_up_proj.weight") != std::string::npos && *parameter.input == Tap::kLatent;
        // An up-projection may read a part of the latent.
        if (slice) {
          EXPECT_GE(rows.size(1), parameter.shape[1]);
        } else {
          EXPECT_EQ(rows.size(1), parameter.shape[1]) << kind << " " << parameter.name;
        }
        if (!parameter.name.ends_with("mlp.down_proj.weight")) continue;
        const at::Tensor out = shown(decoder, Tap::kFeedForwardOutput, layer);
        EXPECT_LT(test::largest_difference(at::mm(rows, weights.at(parameter.name).t()), out), kSameStatistic);
      }
    }
    EXPECT_GE(maps, 3 * 5) << kind;
  }
}

TEST(Statistics, WeightsByDistanceSumUpToOne) {
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const Requirement wanted{Tap::kAttentionWeights, "by_distance"};
  const Rows rows = {{3, 14, 15, 9}, {5, 35, 8, 9}, {9, 3}};
  const at::Tensor weights = calibrate(decoder, rows, {wanted}, {}, {}).at(wanted, 1);
  ASSERT_EQ(weights.sizes(), (at::IntArrayRef{4, 4}));
  // Ten queries look at themselves, seven one token back, four two, two three.
  const at::Tensor queries = at::tensor({10.0, 7.0, 4.0, 2.0});
  EXPECT_LT(test::largest_difference(at::mv(weights, queries.to(at::kDouble)), at::full({4}, 10, at::kDouble)),
            kSameStatistic);
  EXPECT_TRUE(weights.gt(0).all().item<bool>());
}

TEST(Statistics, AttentionWeightsAreComparedHeadByHead) {
  const c10::InferenceMode inference;
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const Requirement alike{Tap::kAttentionWeights, "similarity"};
  const at::Tensor found = calibrate(decoder, {{3, 14, 15, 9, 26}}, {alike}, {}, {}).at(alike, kAllLayers);
  std::vector<at::Tensor> maps;  // of each layer [tokens, heads * keys]
  const Observer observer{{Tap::kAttentionWeights}, [&](Tap, std::int64_t, const at::Tensor& weights) {
                            maps.push_back(weights[0].permute({1, 0, 2}).flatten(1).clone());
                          }};
  decoder.observe(at::tensor({3, 14, 15, 9, 26}, at::kLong).unsqueeze(0), observer);
  ASSERT_EQ(maps.size(), 3);
  EXPECT_NEAR(found[0][2].item<double>(), at::cosine_similarity(maps[0], maps[2], 1).mean().item<double>(),
              kSameStatistic);
  EXPECT_NEAR(found[1][1].item<double>(), 1, kSameStatistic);
}

TEST(Statistics, OfTwoTapsOfAllLayersAndOfSomeTokens) {
  const c10::InferenceMode inference;
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  Requirement cross{Tap::kLayerInput, "cross_moment"};
  cross.with = Tap::kLayerOutput;
  const Requirement alike{Tap::kLayerOutput, "similarity"}, mean{Tap::kLayerOutput, "mean"},
      heads{Tap::kQuery, "head_moments"}, all_heads{Tap::kQuery, "second_moment"};
  Requirement samples{Tap::kLayerOutput, "samples", R"({"tokens":5})"},
      quantiles{Tap::kLayerOutput, "quantiles", R"({"shares":[0.5]})"};
  const Statistics statistics = calibrate(
      decoder, some_rows(), {cross, alike, mean, heads, all_heads, samples, quantiles}, {.batch_tokens = 5}, {});
  // Shorter rows come first in a calibration; sums do not care.
  const at::Tensor in = shown(decoder, Tap::kLayerInput, 1), out = shown(decoder, Tap::kLayerOutput, 1);
  EXPECT_LT(test::largest_difference(statistics.at(cross, 1), at::mm(in.t(), out) / 16), kSameStatistic);
  EXPECT_LT(test::largest_difference(statistics.at(mean, 1), out.mean(0)), kSameStatistic);
  const at::Tensor first = shown(decoder, Tap::kLayerOutput, 0), similarity = statistics.at(alike, kAllLayers);
  ASSERT_EQ(similarity.sizes(), (at::IntArrayRef{3, 3}));
  EXPECT_NEAR(similarity[0][1].item<double>(), at::cosine_similarity(first, out, 1).mean().item<double>(),
              kSameStatistic);
  EXPECT_NEAR(similarity[2][2].item<double>(), 1, kSameStatistic);
  const at::Tensor joint = statistics.at(all_heads, 0), single = statistics.at(heads, 0);
  EXPECT_EQ(joint.size(0), 4 * 8);
  for (std::int64_t head = 0; head < 4; ++head) {
    EXPECT_LT(test::largest_difference(single[head], joint.narrow(0, 8 * head, 8).narrow(1, 8 * head, 8)),
              kSameStatistic);
  }
  EXPECT_EQ(statistics.at(samples, 0).size(0), 4) << "every fourth of 16 tokens";
  const at::Tensor quantile = statistics.at(quantiles, 1);
  EXPECT_LT(test::largest_difference(quantile[0], std::get<0>(out.min(0))), kSameStatistic);
  EXPECT_LT(test::largest_difference(quantile[1], at::quantile(out, 0.5, 0)), kSameStatistic);
  EXPECT_LT(test::largest_difference(quantile[2], std::get<0>(out.max(0))), kSameStatistic);
}

TEST(Statistics, GradientsAreThoseOfTheRowsLoss) {
  Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  Requirement wanted{Tap::kFeedForwardOutput, "cross_moment"};
  wanted.gradient = true;
  wanted.with = wanted.tap;
  Requirement sum{Tap::kFeedForwardOutput, "mean"};
  sum.gradient = true;
  const Rows rows = some_rows();
  const at::Tensor gradient = calibrate(decoder, rows, {sum}, {}, {}).at(sum, 1) * 16;
  const auto loss = [&] {
    const c10::InferenceMode inference;
    double total = 0;
    for (const auto& row : rows) {
      const at::Tensor ids = at::tensor(std::vector<std::int64_t>(row.begin(), row.end()), at::kLong).unsqueeze(0);
      const std::int64_t predicted = ids.size(1) - 1;
      const at::Tensor logits = decoder.forward(ids)[0].narrow(0, 0, predicted).log_softmax(-1);
      total -= logits.gather(1, ids[0].narrow(0, 1, predicted).unsqueeze(1)).sum().item<double>();
    }
    return total;
  };
  // A bias added to all of the layer's feed-forward outputs moves the loss by the sum of the gradients.
  constexpr double kStep = 1e-5, kDifference = 1e-7;
  DecoderLayer& layer = decoder.layers[1];
  for (const std::int64_t channel : {0, 7, 31}) {
    const auto shifted = [&](double by) {
      at::Tensor bias = at::zeros({decoder.spec().hidden}, at::kDouble);
      bias[channel] = by;
      const Linear as_it_was = layer.down;
      layer.down = Linear(as_it_was.to_dense(), bias);
      const double value = loss();
      layer.down = as_it_was;
      return value;
    };
    EXPECT_NEAR((shifted(kStep) - shifted(-kStep)) / (2 * kStep), gradient[channel].item<double>(), kDifference);
  }
}

TEST(Statistics, RefuseReducersThatDoNotFitTheirTaps) {
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const auto refusal = [&](const Requirement& wanted) {
    return test::message_of<ConfigError>([&] { calibrate(decoder, some_rows(), {wanted}, {}, {}); });
  };
  EXPECT_EQ(refusal({Tap::kKey, "cross_moment"}), "statistic key.cross_moment: cross_moment joins two taps");
  Requirement two = kInputMoment;
  two.with = Tap::kLayerInput;
  EXPECT_EQ(refusal(two), "statistic attention_input+layer_input.second_moment: second_moment reads one tap");
  EXPECT_EQ(refusal({Tap::kKey, "samples", R"({"tokens":0})"}), "reducer.tokens = 0: must be at least 1");
}

TEST(Statistics, NamesOfRequirementsAreReadBack) {
  Requirement all{Tap::kKey, "samples", R"({"tokens":5})"};
  all.with = Tap::kQuery;
  all.gradient = true;
  EXPECT_EQ(all.name(), R"(gradient:key+query.samples{"tokens":5})");
  for (const Requirement& requirement : {all, kInputMoment, kKeyPairNorms}) {
    EXPECT_EQ(Requirement::parse(requirement.name()), requirement);
  }
  for (const char* other : {"", "key", "key.", "kex.mean", "key+kex.mean", "key.median", "gradients:key.mean"}) {
    EXPECT_FALSE(Requirement::parse(other)) << other;
  }
}

TEST(LayerWalk, GathersWhatOneCalibrationDoes) {
  const Requirements wanted{kQueryPairNorms, kKeyPairNorms, kInputMoment};
  for (const char* kind : {"grouped_query", "latent", "shared_attention"}) {
    const Decoder decoder = test::tiny_decoder(test::spec_with_attention(kind));
    const Statistics at_once = calibrate(decoder, some_rows(), wanted, {}, {});
    LayerWalk walk(decoder, some_rows(), {.batch_tokens = 5});
    std::size_t compared = 0;
    for (; !walk.done(); walk.advance()) {
      const Statistics own = walk.statistics(wanted);
      EXPECT_EQ(own.tokens, 16);
      EXPECT_EQ(own.rows_hash, at_once.rows_hash);
      for (const auto& [key, value] : own.values) {
        EXPECT_LT(test::largest_difference(value, at_once.values.at(key)), kSameStatistic) << kind;
        ++compared;
      }
    }
    EXPECT_EQ(compared, at_once.values.size()) << kind;
  }
}

TEST(LayerWalk, GoesThroughLayersAsTheyAreNow) {
  Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const Decoder before = decoder.clone();
  LayerWalk walk(decoder, some_rows(), {});
  walk.advance();
  const at::NoGradGuard off;
  decoder.layers[1].down.to_dense().mul_(2);
  const at::Tensor found = walk.statistics({kInputMoment}).at(kInputMoment, 1);
  EXPECT_LT(test::largest_difference(found, calibrate(before, some_rows(), {kInputMoment}, {}, {}).at(kInputMoment, 1)),
            kSameStatistic);
  std::vector<at::Tensor> seen;
  walk.observe(Tap::kAttentionOutput, [&](std::size_t, const at::Tensor& shown) { seen.push_back(shown.clone()); });
  std::size_t told = 0;
  walk.advance(Tap::kAttentionOutput, [&](std::size_t batch, const at::Tensor& shown) {
    EXPECT_TRUE(at::equal(shown, seen.at(batch))) << "what observe() shows, on the way";
    ++told;
  });
  EXPECT_EQ(told, seen.size());
  const at::Tensor changed = walk.statistics({kInputMoment}).at(kInputMoment, 2);
  EXPECT_LT(
      test::largest_difference(changed, calibrate(decoder, some_rows(), {kInputMoment}, {}, {}).at(kInputMoment, 2)),
      kSameStatistic);
}

TEST(Statistics, AreKnownByTheirRows) {
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const auto hash_of = [&](const Rows& rows) { return calibrate(decoder, rows, {kInputMoment}, {}, {}).rows_hash; };
  EXPECT_EQ(hash_of(some_rows()), hash_of(some_rows()));
  EXPECT_NE(hash_of({{1, 2}, {3}}), hash_of({{1}, {2, 3}}));
  EXPECT_NE(hash_of({{1, 2}}), hash_of({{2, 1}}));
}

TEST(Statistics, LayersThatShowNothingHaveNone) {
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("shared_attention"));
  const Statistics statistics = calibrate(decoder, some_rows(), {kKeyPairNorms}, {}, {});
  EXPECT_TRUE(statistics.at(kKeyPairNorms, 0).defined());
  EXPECT_FALSE(statistics.at(kKeyPairNorms, 1).defined());
  EXPECT_THROW(statistics.at(kInputMoment, 0), std::logic_error) << "asked for, but not gathered";
  EXPECT_FALSE(statistics.covers({kInputMoment}));
}

}  // namespace
}  // namespace mla
