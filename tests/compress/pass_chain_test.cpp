// Passes one after another, on the model as it stands.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kSameModel = 1e-10;

std::unique_ptr<Pass> make_pass(const Json& config) { return Registry<Pass>::instance().make(config, "compress[0]"); }

Json merge(const Json& groups, const Json& drop = Json::array()) {
  return {{"name", "merge_layers"}, {"merge", groups}, {"drop", drop}};
}

class MergeLayers : public testing::TestWithParam<std::string> {
 protected:
  MergeLayers() {
    UniformModel uniform = test::tiny_model(GetParam());
    uniform.layers = 4;
    if (!uniform.windows.empty()) uniform.windows.assign(4, uniform.windows.front());
    spec = uniform.spec();
    source = std::make_unique<Decoder>(test::tiny_decoder(spec));
    ids = test::random_ids(spec, 2, 14);
  }
  Decoder after(const Json& config, PassReport* report = nullptr) const {
    Decoder decoder = source->clone();
    PassReport result = run_pass("merge_layers", *make_pass(config), decoder, {});
    if (report) *report = std::move(result);
    return decoder;
  }
  ModelSpec spec;
  std::unique_ptr<Decoder> source;
  at::Tensor ids;
  c10::InferenceMode inference;
};

TEST_P(MergeLayers, NothingIsTheSourceModel) {
  EXPECT_TRUE(at::equal(after(merge(Json::array())).forward(ids), source->forward(ids)));
}

TEST_P(MergeLayers, TheWholeWeightOnOneLayerDropsTheOther) {
  const Decoder dropped = after(merge(Json::array(), {2}));
  EXPECT_EQ(dropped.layers.size(), 3);
  EXPECT_EQ(dropped.spec().layers[2].source_layer, 3);
  const Decoder merged = after(merge({{{"layers", {1, 2}}, {"weights", {1.0, 0.0}}}}));
  EXPECT_TRUE(at::equal(merged.forward(ids), dropped.forward(ids)));
}

TEST_P(MergeLayers, TwoEqualLayersBecomeOneOfThem) {
  TensorMap of_first;
  Decoder& decoder = *source;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name.starts_with("model.layers.1.")) of_first[name.substr(15)] = tensor.clone();
  });
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name.starts_with("model.layers.2.")) tensor.copy_(of_first.at(name.substr(15)));
  });
  const Decoder merged = after(merge({{{"layers", {1, 2}}, {"weights", {0.3, 0.7}}}}));
  EXPECT_LT(test::largest_difference(merged.forward(ids), after(merge(Json::array(), {2})).forward(ids)), kSameModel);
}

TEST_P(MergeLayers, LinearMapsAreAveragedAndNormsKept) {
  const Decoder merged = after(merge({{{"layers", {1, 2, 3}}, {"weights", {0.5, 0.3, 0.2}}}}));
  ASSERT_EQ(merged.layers.size(), 2);
  const auto mean = [&](const auto& part) {
    return 0.5 * part(source->layers[1]) + 0.3 * part(source->layers[2]) + 0.2 * part(source->layers[3]);
  };
  EXPECT_LT(test::largest_difference(merged.layers[1].gate.to_dense(),
                                     mean([](const DecoderLayer& l) { return l.gate.to_dense(); })),
            kSameModel);
  EXPECT_TRUE(at::equal(merged.layers[1].mlp_norm, source->layers[1].mlp_norm));
}

TEST_P(MergeLayers, IsSavedLoadedAndConvertedAfterwards) {
  PassReport report;
  Checkpoint checkpoint = test::tiny_checkpoint(GetParam());
  checkpoint.decoder = after(merge({{{"layers", {0, 1}}}}, {3}), &report);
  EXPECT_EQ(report.after.layer_count(), 2);
  EXPECT_EQ(cached_elements(report.after) * 2, cached_elements(report.before));
  const test::TemporaryFolder folder;
  save_checkpoint(checkpoint, folder / "merged");
  Checkpoint loaded = load_checkpoint(folder / "merged", {.placement = Placement::in(at::kDouble)});
  EXPECT_EQ(loaded.decoder.spec(), report.after);
  EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), checkpoint.decoder.forward(ids)));
  const bool qk_norm = spec.attention(0).heads()->qk_norm;
  PassInputs inputs;
  inputs.arithmetic = at::kDouble;
  const PassReport converted =
      run_pass("mha2mla",
               *make_pass({{"name", "mha2mla"},
                           {"rope", {{"name", "high"}, {"pairs", 2}}},
                           {"low_rank", {{"name", qk_norm ? "value_svd" : "joint_svd"}, {"d_kv", Json{4, 3}}}}}),
               loaded.decoder, inputs);
  EXPECT_EQ(converted.after.layers[1].source_layer, 2);
  DecoderCache cache = loaded.decoder.make_cache(2);
  loaded.decoder.forward_cached(ids, cache);
  EXPECT_EQ(cache.bytes(), 2 * 14 * cached_elements(converted.after) * static_cast<std::int64_t>(sizeof(double)));
  save_checkpoint(loaded, folder / "converted");
  const Checkpoint again = load_checkpoint(folder / "converted", {.placement = Placement::in(at::kDouble)});
  EXPECT_EQ(again.decoder.spec(), converted.after);
  EXPECT_TRUE(at::equal(again.decoder.forward(ids), loaded.decoder.forward(ids)));
}

INSTANTIATE_TEST_SUITE_P(Kinds, MergeLayers, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(MergeLayersPass, RefusesWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");
  const auto refusal = [&](const Json& config, const ModelSpec& model) {
    return test::message_of<ConfigError>([&] { make_pass(config)->plan(model); });
  };
  const auto group = [](const Json& layers, const Json& weights) {
    return merge({{{"layers", layers}, {"weights", weights}}});
  };
  EXPECT_EQ(refusal(group({0, 2}, Json::array()), spec),
            "compress[0].merge[0].layers[1] = 2: is not the neighbour of 0");
  EXPECT_EQ(refusal(group({1, 2}, {0.5, 0.6}), spec), "compress[0].merge[0].weights: sum up to 1.1, not to 1");
  EXPECT_EQ(refusal(group({1, 2}, {1}), spec), "compress[0].merge[0].weights: 1 for 2 layers");
  EXPECT_EQ(refusal(group({2}, Json::array()), spec), "compress[0].merge[0].layers: expected two layers or more");
  EXPECT_EQ(refusal(merge({{{"layers", {0, 1}}}}, {1}), spec), "compress[0].drop[0] = 1: this layer is named twice");
  EXPECT_EQ(refusal(merge(Json::array(), {3}), spec), "compress[0].drop[0] = 3: expected a layer from 0 to 2");
  EXPECT_EQ(refusal(merge(Json::array(), {0, 1, 2}), spec), "compress[0].drop: no layer would be left");
  EXPECT_THAT(refusal(group({1, 2}, Json::array()), test::spec_with_attention("latent")),
              HasSubstr("layers[1] = 2: cannot be averaged with layer 1"));
  // A layer whose weights another one reads cannot go.
  EXPECT_THAT(refusal(merge(Json::array(), {0}), test::spec_with_attention("shared_attention")),
              HasSubstr("compress[0]: the layers that are left[0]: reads the attention_weights"));
}

TEST(PassChain, LowRankNeedsPartialRope) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");
  EXPECT_EQ(test::message_of<ConfigError>([&] {
              make_pass({{"name", "low_rank"}, {"low_rank", {{"name", "joint_svd"}, {"d_kv", 4}}}})->plan(spec);
            }),
            "compress[0]: layer 0 is of kind grouped_query; expected partial RoPE without a low-rank step");
}

/// Rows that begin with `first`.
std::vector<std::vector<std::int32_t>> rows_of(std::int32_t first) {
  std::vector<std::vector<std::int32_t>> rows(6);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::int32_t k = 0; k < 20; ++k) rows[i].push_back((first + 7 * k * k + static_cast<std::int32_t>(i)) % 50);
  }
  return rows;
}

TEST(PassChain, OneDecompositionServesEveryWidthOfOneCalibration) {
  const c10::InferenceMode inference;
  const Decoder source = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const auto pass_of = [](std::int64_t width) {
    return make_pass({{"name", "mha2mla"},
                      {"rope", {{"name", "high"}, {"pairs", 1}}},
                      {"low_rank", {{"name", "joint_svd"}, {"d_kv", width}, {"metric", "outputs"}}}});
  };
  const at::Tensor ids = test::random_ids(source.spec(), 2, 14);
  DecompositionStore store;
  for (const std::int64_t width : {2, 4, 6}) pass_of(width)->announce(source.spec(), store);
  std::vector<at::Tensor> logits;
  for (const std::int32_t calibration : {1, 30}) {
    const Statistics statistics = calibrate(source, rows_of(calibration), {kInputMoment}, {}, {});
    for (const std::int64_t width : {2, 4, 6}) {
      PassInputs inputs;
      inputs.arithmetic = at::kDouble;
      inputs.statistics = &statistics;
      Decoder alone = source.clone(), shared = source.clone();
      run_pass("mha2mla", *pass_of(width), alone, inputs);
      inputs.store = &store;
      run_pass("mha2mla", *pass_of(width), shared, inputs);
      logits.push_back(shared.forward(ids));
      EXPECT_LT(test::largest_difference(alone.forward(ids), logits.back()), kSameModel);
    }
  }
  EXPECT_EQ(store.computed(), 2 * source.spec().layer_count());
  EXPECT_GT(test::largest_difference(logits[0], logits[3]), 1e-4) << "another calibration, another latent";
}

TEST(PassChain, AnAllocatorSpendsTheBudgetOfAllLayersExactly) {
  const c10::InferenceMode inference;
  const Decoder source = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  const at::Tensor ids = test::random_ids(source.spec(), 2, 14);
  for (const char* low_rank : {"joint_svd", "split_svd", "value_svd"}) {
    SCOPED_TRACE(low_rank);
    const auto config = [&](const char* allocator) {
      return Json{{"name", "mha2mla"},
                  {"rope", {{"name", "high"}, {"pairs", 1}}},
                  {"low_rank", {{"name", low_rank}, {"d_kv", Json{2, 5, 4}}}},
                  {"allocate", {{"name", allocator}}}};
    };
    PassInputs inputs;
    inputs.arithmetic = at::kDouble;
    Decoder uniform = source.clone(), energy = source.clone();
    const PassReport by_statement = run_pass("mha2mla", *make_pass(config("uniform")), uniform, inputs);
    const PassReport by_energy = run_pass("mha2mla", *make_pass(config("energy")), energy, inputs);
    EXPECT_EQ(cached_elements(by_energy.after), cached_elements(by_statement.after));
    EXPECT_FALSE(by_energy.after == by_statement.after);
    DecoderCache cache = energy.make_cache(2);
    energy.forward_cached(ids, cache);
    EXPECT_EQ(cache.bytes(), 2 * 14 * cached_elements(by_statement.after) * static_cast<std::int64_t>(sizeof(double)));
    // In two steps the same.
    Decoder stepwise = source.clone();
    for (const Json& step : make_pass(config("energy"))->steps()) run_pass("step", *make_pass(step), stepwise, inputs);
    EXPECT_TRUE(at::equal(stepwise.forward(ids), energy.forward(ids)));
  }
}

TEST(PassChain, WhatWasPlannedIsComparedWithWhatCameOut) {
  const Decoder decoder = test::tiny_decoder(test::spec_with_attention("grouped_query"));
  EXPECT_NO_THROW(expect_as_planned(decoder.spec(), decoder));
  EXPECT_THROW(expect_as_planned(test::spec_with_attention("latent"), decoder), std::logic_error);
  ModelSpec fewer = decoder.spec();
  fewer.layers.pop_back();
  EXPECT_THROW(expect_as_planned(fewer, decoder), std::logic_error);
  for (const char* name : {"model.layers.1.mlp.up_proj", "lm_head"}) {
    ModelSpec packed = decoder.spec();
    set_storage(packed, name, Registry<WeightStorage>::instance().make({{"name", "low_rank"}, {"rank", 4}}, "storage"));
    EXPECT_THROW(expect_as_planned(packed, decoder), std::logic_error);
  }
}

}  // namespace
}  // namespace mla
