// One-bit weights in models: what is stored and computed, what decides about it, and where such models may go.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/one_bit_weights.h"
#include "core/base/registry.h"
#include "core/compress/calibration/map_inputs.h"
#include "core/compress/pass.h"
#include "core/train/trainable.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr double kSameMoment = 1e-9;  // relative to the largest entry, of the same states by another way

TokenRowList one_bit_rows_of(const ModelSpec& spec) {
  TokenRowList rows;
  for (std::uint64_t i = 0; i < 6; ++i) {
    const at::Tensor ids = test::random_ids(spec, 1, 18 + static_cast<std::int64_t>(i % 2), 40 + i);
    rows.emplace_back(ids.const_data_ptr<std::int64_t>(), ids.const_data_ptr<std::int64_t>() + ids.numel());
  }
  return rows;
}

Json billm(const Json& more = Json::object()) {
  Json config = {{"name", "billm"}, {"block", 16}};
  config.update(more);
  return config;
}

PassReport run_calibrated(Decoder& decoder, const Json& config) {
  const auto pass = Registry<Pass>::instance().make(config, "compress[0]");
  const TokenRowList rows = one_bit_rows_of(decoder.spec());
  Statistics statistics;
  if (!pass->requirements().empty()) statistics = calibrate(decoder, rows, pass->requirements(), {}, {});
  PassInputs inputs;
  inputs.rows = &rows;
  inputs.statistics = &statistics;
  return run_pass(config.at("name").get<std::string>(), *pass, decoder, inputs);
}

/// The same model with every matrix dense, holding the numbers that its bits stand for.
Decoder decoded_twin(const Decoder& decoder) {
  Decoder twin = decoder.clone();
  twin.replace_maps([&](const std::string&, Linear& map) {
    if (map.storage()) map = Linear(map.to_dense().to(twin.compute_dtype), map.bias());
  });
  return twin;
}

/// Every kind of attention, and the kinds of tiny models.
std::vector<std::pair<std::string, std::string>> one_bit_models() {
  std::vector<std::pair<std::string, std::string>> all;
  for (const std::string& kind : Registry<AttentionSpec>::instance().names()) all.emplace_back(kind, "gqa");
  for (const std::string& tiny : test::tiny_kinds()) {
    if (tiny != "gqa") all.emplace_back("grouped_query", tiny);
  }
  return all;
}

class OneBitModel : public testing::TestWithParam<std::pair<std::string, std::string>> {
 protected:
  static Decoder source(at::ScalarType dtype = at::kFloat) {
    const auto& [kind, tiny] = GetParam();
    return test::tiny_decoder(kind == "grouped_query" ? test::tiny_spec(tiny) : test::spec_with_attention(kind, tiny),
                              dtype);
  }
};

TEST_P(OneBitModel, ComputesWhatItsDecodedTwinComputes) {
  const at::NoGradGuard no_grad;
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    Decoder decoder = source(dtype);
    run_calibrated(decoder, billm());
    const Decoder twin = decoded_twin(decoder);
    for (const std::int64_t length : {12, 1}) {  // few tokens take other kernels
      const at::Tensor ids = test::random_ids(decoder.spec(), 1, length);
      const at::Tensor logits = decoder.forward(ids);
      EXPECT_TRUE(logits.isfinite().all().item<bool>());
      EXPECT_TRUE(at::equal(logits, twin.forward(ids)));
      DecoderCache cache = decoder.make_cache(1), same = twin.make_cache(1);
      EXPECT_TRUE(at::equal(decoder.forward_cached(ids, cache), twin.forward_cached(ids, same)));
      EXPECT_TRUE(at::equal(decoder.forward_cached(ids.narrow(1, 0, 1), cache),
                            twin.forward_cached(ids.narrow(1, 0, 1), same)));
    }
  }
}

TEST_P(OneBitModel, HoldsTheBytesThatAreCounted) {
  Decoder decoder = source();
  const std::int64_t before = decoder.weight_bytes(), parameters = decoder.parameter_count();
  run_calibrated(decoder, billm());
  EXPECT_EQ(decoder.weight_bytes(), decoder.predicted_weight_bytes());
  EXPECT_EQ(decoder.parameter_count(), parameters);
  // Two bits an element, one a column, and seven float16 a row and block, whole bytes each.
  std::int64_t expected = before;
  for (const ModelParameter& parameter : model_parameters(decoder.spec())) {
    if (!parameter.storage) continue;
    const auto [rows, columns] = parameter.matrix();
    expected += (2 * rows + 1) * ((columns + 7) / 8) + rows * ((columns + 15) / 16) * 7 * 2 - 4 * rows * columns;
  }
  EXPECT_EQ(decoder.weight_bytes(), expected);
  EXPECT_LT(expected, before);
}

TEST_P(OneBitModel, SavedAndLoadedIsTheSame) {
  const at::NoGradGuard no_grad;
  Checkpoint checkpoint = test::tiny_checkpoint(GetParam().second, at::kFloat);
  checkpoint.decoder = source();
  run_calibrated(checkpoint.decoder, billm());
  const at::Tensor ids = test::random_ids(checkpoint.decoder.spec(), 2, 12);
  const test::TemporaryFolder folder;
  save_checkpoint(checkpoint, folder.path());
  EXPECT_EQ(load_spec(folder.path()), checkpoint.decoder.spec());
  for (const auto& dtype : {std::optional(at::kFloat), std::optional<at::ScalarType>()}) {
    const Checkpoint loaded = load_checkpoint(folder.path(), {.placement = {.storage = dtype}});
    EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), checkpoint.decoder.forward(ids)));
    EXPECT_EQ(loaded.decoder.weight_bytes(), checkpoint.decoder.weight_bytes());
  }
}

/// What maps multiply is what the taps show that their parameters name; up-projections may read a slice of it.
TEST_P(OneBitModel, InputsOfMapsAreSeen) {
  Decoder decoder = source(at::kDouble);
  const at::Tensor ids = test::random_ids(decoder.spec(), 2, 12), logits = decoder.forward(ids);
  const TokenRowList rows = one_bit_rows_of(decoder.spec());
  LayerWalk walk(decoder, rows, CalibrationOptions{});
  for (std::int64_t layer = 0; layer < decoder.spec().layer_count(); ++layer) {
    std::set<std::string> names;
    std::map<std::string, Tap> taps;
    for (const ModelParameter& parameter : layer_parameters(decoder.spec(), layer)) {
      if (!parameter.is_matrix() || parameter.count() == 0) continue;
      names.insert(parameter.map_name());
      // Layers read maps of latents and of single heads' queries as matrices.
      if (*parameter.input != Tap::kLatent && *parameter.input != Tap::kQuery)
        taps[parameter.map_name()] = *parameter.input;
    }
    const std::map<std::string, at::Tensor> seen = input_moments(decoder, walk, names);
    ASSERT_GE(taps.size(), 5u);
    for (const auto& [name, tap] : taps) {
      const Requirement requirement{tap, "second_moment"};
      const at::Tensor expected = 2 * walk.statistics({requirement}).at(requirement, layer);
      ASSERT_TRUE(seen.contains(name)) << name;
      EXPECT_LT(test::largest_difference(seen.at(name), expected), kSameMoment * expected.abs().max().item<double>())
          << name;
    }
    walk.advance();
  }
  EXPECT_TRUE(at::equal(decoder.forward(ids), logits)) << "the model is left as it was";
  EXPECT_TRUE(model_storage(decoder.spec()).empty());
}

INSTANTIATE_TEST_SUITE_P(Kinds, OneBitModel, testing::ValuesIn(one_bit_models()),
                         [](const auto& one) { return one.param.first + "_" + one.param.second; });

TEST(OneBitWeights, ThinProductsAreThoseWithTheDecodedMatrix) {
  const at::NoGradGuard no_grad;
  for (const std::int64_t columns : {1, 8, 31, 64, 200}) {
    for (const bool centred : {true, false}) {
      for (const at::ScalarType scales : {at::kHalf, at::kFloat}) {
        OneBitOptions options;
        options.block = 24;
        options.centred = centred;
        options.scales = scales;
        const Linear dense(test::normal({37, columns}, at::kFloat, 21), test::normal({37}, at::kFloat, 22));
        const Linear map = hold_as_one_bit(dense, {}, options), twin(map.to_dense(), map.bias());
        for (const std::int64_t tokens : {1, 3, 16, 40}) {
          const at::Tensor x = test::normal({tokens, columns}, at::kFloat, 23);
          EXPECT_TRUE(at::equal(map(x), twin(x))) << columns << " columns, " << tokens << " tokens";
        }
        const at::Tensor rows = at::tensor({36, 0, 5}, at::kLong);
        EXPECT_TRUE(at::equal(map.rows_at(rows), map.to_dense().index_select(0, rows)));
      }
    }
  }
}

TEST(Billm, WhatDecidesMakesADifference) {
  const Decoder source = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const at::Tensor ids = test::random_ids(source.spec(), 2, 12);
  const auto logits = [&](const Json& more) {
    Decoder decoder = source.clone();
    run_calibrated(decoder, billm(more));
    return decoder.forward(ids);
  };
  const at::Tensor usual = logits(Json::object());
  EXPECT_TRUE(at::equal(logits(Json::object()), usual));
  for (const Json& more :
       {Json{{"metric", "magnitude"}}, Json{{"diagonal", "inverse"}}, Json{{"search", "weights"}},
        Json{{"break_points", "fractions"}}, Json{{"centred", false}}, Json{{"most_salient", 2}},
        Json{{"compensate", false}}, Json{{"damping", 0.5}}, Json{{"scales", "float32"}}, Json{{"inputs", "found"}},
        Json{{"block", 8}}, Json{{"maps", {"attention"}}}, Json{{"skip", "k_proj"}}}) {
    EXPECT_FALSE(at::equal(logits(more), usual)) << more;
  }
}

TEST(Billm, NeedsNoDataWhereNoneDecides) {
  const auto needs = [](const Json& more) {
    return Registry<Pass>::instance().make(billm(more), "compress[0]")->needs_calibration();
  };
  EXPECT_TRUE(needs(Json::object()));
  EXPECT_TRUE(needs({{"compensate", false}}));
  EXPECT_TRUE(needs({{"metric", "magnitude"}}));
  EXPECT_FALSE(needs({{"compensate", false}, {"metric", "magnitude"}}));
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  const auto pass = Registry<Pass>::instance().make(billm({{"compensate", false}, {"metric", "magnitude"}}), "pass");
  run_pass("billm", *pass, decoder, {});
  EXPECT_EQ(model_storage(decoder.spec()).size(), 14u);
}

TEST(Billm, TakesTheMapsThatAreNamed) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.tied_embeddings = false;
  Decoder decoder = test::tiny_decoder(spec, at::kFloat);
  run_calibrated(decoder, billm({{"maps", {"feed_forward", "output"}}, {"skip", R"(0\.mlp|gate)"}}));
  std::vector<std::string> names;
  for (const auto& [name, storage] : model_storage(decoder.spec())) names.push_back(name);
  EXPECT_THAT(names, UnorderedElementsAre("lm_head", "model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj"));
}

TEST(Billm, ComesAfterOtherPasses) {
  const at::NoGradGuard no_grad;
  UniformModel four = test::tiny_model("gqa");
  four.layers = 4;
  Decoder decoder = test::tiny_decoder(four.spec(), at::kFloat);
  run_calibrated(decoder, {{"name", "mka"}, {"merges", 1}, {"choose", "last"}, {"ratio", "drop"}});
  run_calibrated(decoder, {{"name", "mha2mla"},
                           {"rope", {{"name", "two_norm"}, {"pairs", 1}}},
                           {"low_rank", {{"name", "joint_svd"}, {"d_kv", 8}}}});
  run_calibrated(decoder, billm({{"skip", "up_proj$"}}));
  EXPECT_EQ(decoder.layers.size(), 3u);
  EXPECT_EQ(decoder.weight_bytes(), decoder.predicted_weight_bytes());
  EXPECT_TRUE(decoder.forward(test::random_ids(decoder.spec(), 2, 12)).isfinite().all().item<bool>());
  const auto refused = [&](const Json& config) {
    return test::message_of<ConfigError>([&] { run_calibrated(decoder, config); });
  };
  EXPECT_THAT(refused({{"name", "merge_layers"}, {"merge", {{{"layers", {0, 1}}}}}}),
              HasSubstr("is held as one-bit weights in blocks of 16, and this pass computes with dense matrices"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { TrainableParameters(decoder, "all", "train.trainable"); }),
              HasSubstr("is held as one-bit weights in blocks of 16 and so not trained"));
}

TEST(Billm, RefusesWhatCannotBe) {
  const ModelSpec spec = test::tiny_spec("gqa");
  const auto refusal = [&](const Json& more) {
    return test::message_of<ConfigError>(
        [&] { Registry<Pass>::instance().make(billm(more), "compress[0]")->plan(spec); });
  };
  EXPECT_EQ(refusal({{"block", 20}}),
            "compress[0].block = 20: expected a multiple of 8, so that it begins with a byte");
  EXPECT_THAT(refusal({{"block", 0}}), HasSubstr("compress[0].block = 0"));
  EXPECT_THAT(refusal({{"most_salient", -1}}), HasSubstr("compress[0].most_salient = -1: must not be negative"));
  EXPECT_THAT(refusal({{"damping", 0}}), HasSubstr("compress[0].damping = 0: must be more than 0"));
  EXPECT_THAT(refusal({{"maps", {"embedding"}}}), HasSubstr("compress[0].maps: embedding: its rows are looked up"));
  EXPECT_THAT(refusal({{"maps", Json::array()}}), HasSubstr("no dense linear map of the model is among them"));
  EXPECT_THAT(refusal({{"skip", "("}}), HasSubstr("compress[0].skip = (: no regular expression"));
  EXPECT_THAT(refusal({{"metric", "hesian"}}), HasSubstr("did you mean 'hessian'"));
  Decoder broken = test::tiny_decoder(spec, at::kFloat);
  broken.layers[1].down.to_dense()[3][2] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(test::message_of<DataError>([&] {
                run_calibrated(broken, billm({{"metric", "magnitude"}, {"compensate", false}}));
              }),
              HasSubstr("compress[0]: model.layers.1.mlp.down_proj: element [3, 2] = inf"));
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                Registry<WeightStorage>::instance().make({{"name", "billm"}, {"block", 12}}, "storage");
              }),
              HasSubstr("storage.block = 12"));
}

}  // namespace
}  // namespace mla
