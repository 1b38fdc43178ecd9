// config.json is written from the description of a model, and read back into it.
#include "core/model/model_config.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/evaluate/token_nll.h"
#include "core/model/checkpoint.h"
#include "core/model/family.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kSameLikelihood = 1e-9;

Json config_of(const ModelSpec& spec) { return write_model_config(spec, {{"model_type", spec.family}}, "config.json"); }

ModelSpec read_back(const ModelSpec& spec) { return read_model_config(config_of(spec), "config.json"); }

class ModelConfig : public testing::TestWithParam<std::string> {};

TEST_P(ModelConfig, AnUnconvertedModelIsOneOfItsFamily) {
  const ModelSpec spec = test::tiny_spec(GetParam());
  const Json config = config_of(spec);
  EXPECT_EQ(config["model_type"], spec.family);
  EXPECT_FALSE(config.contains("latent_attention"));
  EXPECT_EQ(read_published_config(config, "config.json"), spec);
}

TEST_P(ModelConfig, WhatAgreesAlreadyIsNotTouched) {
  const ModelSpec spec = test::tiny_spec(GetParam());
  Json config = config_of(spec);
  config["torch_dtype"] = "bfloat16";
  config["architectures"] = {"Whatever"};
  EXPECT_EQ(write_model_config(spec, config, "config.json"), config);
}

TEST_P(ModelConfig, EveryChangeOfTheModelIsWritten) {
  const ModelSpec spec = test::tiny_spec(GetParam());
  const Json config = config_of(spec);
  const std::vector<std::pair<const char*, std::function<void(ModelSpec&)>>> changes = {
      {"vocabulary", [](ModelSpec& s) { s.vocabulary = 77; }},
      {"max_positions", [](ModelSpec& s) { s.max_positions = 99; }},
      {"norm_epsilon", [](ModelSpec& s) { s.norm_epsilon = 3e-5; }},
      {"rope_theta", [](ModelSpec& s) { s.rope_theta = 5e5; }},
      {"rope_scaling",
       [](ModelSpec& s) {
         s.rope_scaling = {};
         s.rope_scaling.type = "llama3";
         s.rope_scaling.factor = 8;
         s.rope_scaling.original_positions = 32;
       }},
      {"tied_embeddings", [](ModelSpec& s) { s.tied_embeddings = !s.tied_embeddings; }},
      {"bos", [](ModelSpec& s) { s.bos = 7; }},
      {"fewer layers", [](ModelSpec& s) { s.layers.erase(s.layers.begin()); }},
      {"feed-forward", [](ModelSpec& s) { s.layers[1].feed_forward.width = 31; }},
      {"feed-forward bias", [](ModelSpec& s) { s.layers[0].feed_forward.bias = !s.layers[0].feed_forward.bias; }},
      {"another kind", [](ModelSpec& s) {
         s.layers[1].attention = test::spec_with_attention("shared_attention").layers[1].attention;
       }}};
  for (const auto& [what, change] : changes) {
    SCOPED_TRACE(what);
    ModelSpec changed = spec;
    change(changed);
    ASSERT_FALSE(changed == spec);
    const Json written = write_model_config(changed, config, "config.json");
    EXPECT_EQ(read_model_config(written, "config.json"), changed);
  }
}

TEST_P(ModelConfig, LayersMayDifferInHeads) {
  ModelSpec spec = test::tiny_spec(GetParam());
  HeadFields heads = *spec.attention(1).heads();
  heads.kv_heads = 1;
  heads.window = 3;
  heads.output_bias = true;
  Json fields = write_fields(heads);
  fields["name"] = "grouped_query";
  spec.layers[1].attention = Registry<AttentionSpec>::instance().make(fields, "layer");
  const Json config = config_of(spec);
  EXPECT_EQ(read_back(spec), spec);
  if (spec.family != "llama") return;  // another family's windows may stand in its own keys
  EXPECT_EQ(config["latent_attention"]["format"], 2);
  EXPECT_EQ(config["latent_attention"]["layers"][0], Json());
  EXPECT_EQ(config["latent_attention"]["layers"][1],
            (Json{{"kind", "grouped_query"}, {"kv_heads", 1}, {"window", 3}, {"output_bias", true}}));
}

INSTANTIATE_TEST_SUITE_P(Kinds, ModelConfig, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(ModelConfigFormat, LatentLayersAreWrittenInTheFirstOne) {
  const Json config = config_of(test::spec_with_attention("latent"));
  EXPECT_EQ(config["model_type"], "mlaforge");
  EXPECT_EQ(config["source_model_type"], "llama");
  EXPECT_EQ(config["latent_attention"]["format"], 1);
  std::vector<std::string> keys;
  for (const auto& [key, value] : config["latent_attention"]["layers"][0].items()) keys.push_back(key);
  EXPECT_THAT(keys, testing::ElementsAre("kept_pairs", "content_width", "value_width", "latent_width", "key_slice",
                                         "value_slice", "key_up", "value_up"));
}

TEST(ModelConfigFormat, BadEntriesAreToldByLayerAndKey) {
  const Json good = config_of(test::spec_with_attention("latent"));
  const auto refusal = [&](const char* pointer, const Json& value) {
    Json config = good;
    config[Json::json_pointer(pointer)] = value;
    return test::message_of<DataError>([&] { read_model_config(config, "config.json"); });
  };
  const std::string at = "config.json: latent_attention";
  EXPECT_THAT(refusal("/latent_attention/format", 4), HasSubstr(at + ".format = 4: expected 1, 2 or 3"));
  EXPECT_THAT(refusal("/latent_attention/extra", 3), HasSubstr(at + ".extra: unknown key"));
  EXPECT_THAT(refusal("/latent_attention/layers", {1}), HasSubstr(at + ".layers: expected a list of 3 entries"));
  EXPECT_THAT(refusal("/latent_attention/layers/1", "x"), HasSubstr(at + ".layers[1]: expected an object"));
  EXPECT_THAT(refusal("/latent_attention/layers/1/kind", "latend"),
              HasSubstr(at + ".layers[1].kind: no 'latend'; did you mean 'latent'?"));
  EXPECT_THAT(refusal("/latent_attention/layers/1/kind", 1), HasSubstr(at + ".layers[1].kind: expected a string"));
  EXPECT_THAT(refusal("/latent_attention/layers/1/wide", 1), HasSubstr(at + ".layers[1].wide: unknown key"));
  EXPECT_THAT(refusal("/latent_attention/layers/1/key_slice", {0, -1}),
              HasSubstr(at + ".layers[1].key_slice: expected [begin, width]"));
  EXPECT_THAT(refusal("/latent_attention/layers/1/kept_pairs", {{0}, {9}}),
              HasSubstr(at + ".layers[1]: kept_pairs: 9 is not a pair of head_dim 8"));
  EXPECT_THAT(refusal("/latent_attention/layers/1/kv_heads", 3),
              HasSubstr(at + ".layers[1].kv_heads = 3: must divide heads = 4"));
  EXPECT_THAT(refusal("/latent_attention/layers/1/source_layer", -1), HasSubstr(at + ".layers[1].source_layer = -1"));
  EXPECT_THAT(refusal("/latent_attention/layers/0", {{"kind", "shared_attention"}}),
              HasSubstr(at + ".layers[0]: reads the attention_weights of a layer before it"));
}

// Folders that the program wrote when latent layers were all it could convert to; QK-norm weights are one for each
// head there, which only the weights tell.
TEST(ModelConfigFormat, ModelsOfTheFirstFormatReadAsTheyDid) {
  const at::NoGradGuard no_grad;
  for (const char* model : {"llama_joint", "qwen3_value"}) {
    SCOPED_TRACE(model);
    const auto folder = std::filesystem::path(MLA_SOURCE_DIR) / "tests/model/version_1" / model;
    const Checkpoint loaded = load_checkpoint(folder, {.placement = Placement::in(at::kDouble)});
    EXPECT_EQ(loaded.decoder.spec().attention(1).kind(), "latent");
    EXPECT_EQ(loaded.decoder.parameter_count(), count_parameters(loaded.decoder.spec()).total());
    const Json scores = read_json(folder / "scores.json");
    for (std::size_t row = 0; row < scores["ids"].size(); ++row) {
      const at::Tensor ids = at::tensor(scores["ids"][row].get<std::vector<std::int64_t>>(), at::kLong).unsqueeze(0);
      const at::Tensor wanted = at::tensor(scores["nll"][row].get<std::vector<double>>(), at::kDouble);
      EXPECT_LT(test::largest_difference(token_nll(loaded.decoder, ids).flatten().narrow(0, 0, wanted.size(0)), wanted),
                kSameLikelihood);
    }
    const test::TemporaryFolder again;
    save_checkpoint(loaded, again.path());
    EXPECT_EQ(load_checkpoint(again.path(), {.placement = Placement::in(at::kDouble)}).decoder.spec(),
              loaded.decoder.spec());
  }
}

}  // namespace
}  // namespace mla
