// Folders of model type deepseek_v3: read again, they compute what the model computes.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "core/attention/latent.h"
#include "core/base/file.h"
#include "core/model/family.h"
#include "core/serve/compare_models.h"
#include "core/serve/deepseek_form.h"
#include "core/serve/served_folder.h"
#include "core/serve/served_layout.h"
#include "tests/serve/served_models.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::exported;
using test::logit_difference;
using test::message_of;
using test::served_model;
using test::verdict_of;
using ::testing::HasSubstr;

/// Of float32 logits, in their standard deviations.
constexpr double kSameServed = 5e-5;
/// And of weights that were rounded to float16, whose norm is shared with the layer's input.
constexpr double kNarrowServed = 5e-2;

const Json kComb = {{"name", "comb"}, {"pairs", 1}}, kHigh = {{"name", "high"}, {"pairs", 2}},
           kUniform = {{"name", "uniform"}, {"pairs", 2}, {"start", 1}}, kNoPairs = {{"name", "high"}, {"pairs", 0}};

std::vector<Json> served_passes() {
  return {test::per_head_keys(kComb), test::per_head_keys(kHigh), test::per_head_keys(kUniform),
          test::per_head_keys(kNoPairs), test::shared_key()};
}

TEST(DeepSeekV3, ComputesWhatTheModelComputes) {
  for (const std::string kind : {"mha", "gqa", "biases"}) {
    for (const Json& pass : served_passes()) {
      SCOPED_TRACE(kind + " " + pass.dump());
      const test::TemporaryFolder folder;
      const Checkpoint model = served_model(kind, pass);
      ExportReport report;
      const Decoder again = exported(model, folder, {"float32"}, &report);
      const ModelComparison found = compare_models(again, model.decoder, test::random_ids(model.decoder.spec(), 2, 20));
      EXPECT_LT(found.largest, kSameServed);
      EXPECT_LT(found.stepwise, kSameServed);
      const bool rotates = model.decoder.spec().attention(0).rotated_pairs() > 0;
      EXPECT_EQ(found.cached, found.cached_by_model + (rotates ? 0 : 2 * again.spec().layer_count()));
      EXPECT_EQ(report.cached_values * again.spec().layer_count(), found.cached);
      EXPECT_TRUE(verdict_of(report, kTransformers).loads) << verdict_of(report, kTransformers).reason;
    }
  }
}

/// A model with QK-norm, as a whole chain: its norms folded into linear maps, then one latent and one rotated key.
TEST(DeepSeekV3, HoldsModelsWhoseHeadNormsWereFolded) {
  const test::PassedModel tiny(test::tiny_spec("qk_norm"));
  const Decoder folded = tiny.after({{"name", "fold_qk_norm"}});
  for (const std::int64_t cached : {8, 12}) {
    Checkpoint model = test::tiny_checkpoint("qk_norm");
    model.decoder = test::after_pass(
        folded, {{"name", "mkla"}, {"layout", "plain"}, {"servable", true}, {"pairs", 1}, {"cached", cached}},
        tiny.calibration);
    model.decoder.move_to({.storage = at::kFloat, .compute = at::kFloat});
    EXPECT_EQ(model.decoder.spec().attention(0).kind(), "latent");
    const test::TemporaryFolder folder;
    ExportReport report;
    const Decoder again = exported(model, folder, {"float32"}, &report);
    EXPECT_EQ(report.cached_values, cached);
    EXPECT_LT(logit_difference(again, model.decoder), kSameServed);
    for (const EngineVerdict& verdict : report.engines) EXPECT_TRUE(verdict.loads) << verdict.engine << verdict.reason;
  }
}

TEST(DeepSeekV3, KeysAndValuesThatAreCachedThemselvesHaveMapsOfOnes) {
  const Json partial = {{"name", "partial_rope"}, {"rope", kComb}};
  const test::TemporaryFolder folder;
  const Checkpoint model = served_model("gqa", partial);
  EXPECT_LT(logit_difference(exported(model, folder), model.decoder), kSameServed);
}

TEST(DeepSeekV3, EveryEngineTakesCombsAndSharedKeys) {
  for (const Json& pass : {test::per_head_keys(kComb), test::shared_key()}) {
    const test::TemporaryFolder folder;
    ExportReport report;
    exported(served_model("gqa", pass), folder, {"float32"}, &report);
    for (const EngineVerdict& verdict : report.engines) EXPECT_TRUE(verdict.loads) << verdict.engine << verdict.reason;
  }
}

TEST(DeepSeekV3, NamesTheEnginesThatListedFrequenciesAndBiasesLose) {
  for (const auto& [kind, rope, key] :
       {std::tuple{"gqa", kHigh, "rope_type = longrope"}, {"biases", kComb, "attention_bias = true"}}) {
    const test::TemporaryFolder folder;
    ExportReport report;
    exported(served_model(kind, test::per_head_keys(rope)), folder, {"float32"}, &report);
    for (const char* engine : {kVllm, kSglang, kLlamaCpp}) {
      EXPECT_FALSE(verdict_of(report, engine).loads) << engine;
      EXPECT_THAT(verdict_of(report, engine).reason, HasSubstr(key)) << engine;
    }
    EXPECT_TRUE(verdict_of(report, kMlx).loads);
  }
}

TEST(DeepSeekV3, PaddingChangesNothingButTheCache) {
  for (const Json& pass : {test::per_head_keys(kComb), test::per_head_keys(kHigh), test::shared_key()}) {
    const test::TemporaryFolder folder;
    const Checkpoint model = served_model("gqa", pass);
    ExportReport report;
    const Decoder again = exported(model, folder, {.dtype = "float32", .pad = true}, &report);
    EXPECT_EQ(report.cached_values, 512 + 64);
    EXPECT_LT(logit_difference(again, model.decoder), kSameServed);
  }
}

TEST(DeepSeekV3, AnotherEpsilonRescalesTheResidualStream) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.norm_epsilon = 1e-5;
  const test::PassedModel tiny(spec);
  Checkpoint model{tiny.after(test::shared_key()), make_config(spec), {}};
  model.decoder.move_to({.storage = at::kFloat, .compute = at::kFloat});
  const test::TemporaryFolder folder;
  ExportReport report;
  const Decoder again = exported(model, folder, {"float32"}, &report);
  EXPECT_EQ(again.spec().norm_epsilon, kLatentEpsilon);
  EXPECT_NEAR(report.details.at("residual_scale").get<double>(), std::sqrt(0.1), 1e-12);
  EXPECT_LT(logit_difference(again, model.decoder), kSameServed);
}

TEST(DeepSeekV3, NarrowTypesKeepTheirPrecision) {
  const Checkpoint model = served_model("gqa", test::shared_key());
  const test::TemporaryFolder narrow, brain;
  EXPECT_LT(logit_difference(exported(model, narrow, {"float16"}), model.decoder), kNarrowServed);
  const Decoder rounded = exported(model, brain, {"bfloat16"});
  EXPECT_EQ(rounded.embedding.scalar_type(), at::kBFloat16);
  EXPECT_LT(logit_difference(rounded, model.decoder), 8 * kNarrowServed);  // three bits fewer
}

TEST(DeepSeekV3, RefusesWhatNoClassHoldsAndSaysWhatDoes) {
  const auto refusal = [](const std::string& kind, const Json& pass) {
    const Checkpoint model = pass.is_null() ? test::tiny_checkpoint(kind) : served_model(kind, pass);
    return message_of<ConfigError>([&] { DeepSeekForm(model.decoder, {}, "--format deepseek_v3"); });
  };
  EXPECT_THAT(refusal("gqa", {}), HasSubstr("convert the model first"));
  EXPECT_THAT(refusal("window", test::per_head_keys(kComb)), HasSubstr("sliding window of 5"));
  const Json picked = {{"name", "partial_rope"}, {"rope", kComb}};
  EXPECT_THAT(refusal("qk_norm", picked), HasSubstr("QK-norm"));
  EXPECT_THAT(refusal("gqa", {{"name", "kv_heads"}, {"kv_heads", 1}}), HasSubstr("convert"));
  const std::string ranks =
      refusal("gqa", {{"name", "mha2mla"}, {"rope", kComb}, {"low_rank", {{"name", "joint_svd"}, {"d_kv", {4, 6}}}}});
  EXPECT_THAT(ranks, HasSubstr("layer 1 has a latent of 12 elements and layer 0 one of 8"));
  EXPECT_THAT(ranks, HasSubstr("--pad"));
}

TEST(DeepSeekV3, RefusesBlocksThatAreBuiltOtherwise) {
  const auto refusal = [](const std::function<void(ModelSpec&)>& change) {
    ModelSpec spec = served_model("gqa", test::per_head_keys(kComb)).decoder.spec();
    servable_layouts(spec, 0, "--format deepseek_v3");  // as it is, it serves
    change(spec);
    return message_of<ConfigError>([&] { servable_layouts(spec, 0, "--format deepseek_v3"); });
  };
  EXPECT_THAT(refusal([](ModelSpec& spec) { spec.embedding_scale = 2; }), HasSubstr("scaled embeddings"));
  EXPECT_THAT(refusal([](ModelSpec& spec) { spec.norms = NormPlacement::kAfter; }), HasSubstr("norms behind"));
  EXPECT_THAT(refusal([](ModelSpec& spec) { spec.norms_add_one = true; }), HasSubstr("counted from one"));
  EXPECT_THAT(refusal([](ModelSpec& spec) { spec.logit_cap = 30; }), HasSubstr("capped logits"));
  EXPECT_THAT(refusal([](ModelSpec& spec) { spec.layers[1].feed_forward.activation = Activation::kGeluTanh; }),
              HasSubstr("SiLU"));
}

TEST(DeepSeekV3, DifferentRanksArePaddedToOne) {
  const Json pass = {{"name", "mha2mla"}, {"rope", kComb}, {"low_rank", {{"name", "joint_svd"}, {"d_kv", {4, 6}}}}};
  const Checkpoint model = served_model("gqa", pass);
  const test::TemporaryFolder folder;
  EXPECT_LT(logit_difference(exported(model, folder, {.dtype = "float32", .pad = true}), model.decoder), kSameServed);
}

TEST(DeepSeekV3, ScalesOfYarnAreFoldedIn) {
  const Checkpoint model = served_model("yarn", test::per_head_keys(kHigh));
  const test::TemporaryFolder folder;
  const std::string refusal = message_of<DataError>([&] { exported(model, folder); });
  EXPECT_THAT(refusal, HasSubstr("longrope is read where its frequencies are those of a ladder"));
  const DeepSeekForm form(model.decoder, {}, "test");
  const at::Tensor frequencies = model.decoder.spec().rotary().frequencies(64);
  const std::vector<double> stated = form.rope().frequencies();
  for (std::size_t i = 0; i < stated.size(); ++i)  // each pair twice, of two KV heads
    EXPECT_NEAR(stated[i], frequencies[static_cast<std::int64_t>(i / 2)].item<double>(), 1e-9);
  // Queries carry the model's scale, which yarn's is part of: 1 / sqrt(n + r) is the engines'.
  const HeadFields heads = *model.decoder.spec().attention(0).heads();
  const double scale = softmax_scale(model.decoder.spec(), heads) * std::sqrt(form.sizes().query_width());
  EXPECT_GT(scale, std::sqrt(static_cast<double>(form.sizes().query_width()) / 8));
  const at::Tensor own = as_latent(*model.decoder.layers[0].attention)->weights().query.to_dense();
  EXPECT_NEAR(form.layer(0).query.norm().item<double>(), own.norm().item<double>() * scale, 1e-3);
}

TEST(DeepSeekV3, TellsOfItselfInAModelCard) {
  const test::TemporaryFolder folder;
  exported(served_model("gqa", test::shared_key()), folder);
  const std::string card = read_file(folder / "out" / "README.md");
  for (const char* words : {"cached values per token and layer | 16", "## Which engines run it", "| vLLM | yes |",
                            "AutoModelForCausalLM.from_pretrained", "kv_lora_rank"})
    EXPECT_THAT(card, HasSubstr(words));
}

}  // namespace
}  // namespace mla
