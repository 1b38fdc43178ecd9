// Folders with code of their own: our reader takes them as the converted models that they are.
#include "core/serve/transformers_code.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <tuple>

#include "core/model/family.h"
#include "tests/serve/served_models.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const Json kPerLayer = {{"name", "mha2mla"},
                        {"rope", {{"name", "two_norm"}, {"pairs", {1, 2}}}},
                        {"low_rank", {{"name", "joint_svd"}, {"d_kv", {4, 6}}}}};

TEST(TransformersCode, HoldsWhatNoClassDoesAndIsReadAgain) {
  const Json picked = {{"name", "partial_rope"}, {"rope", {{"name", "two_norm"}, {"pairs", 2}}}};
  for (const auto& [kind, pass] : {std::pair{"gqa", kPerLayer},
                                   {"biases", kPerLayer},
                                   {"window", kPerLayer},
                                   {"yarn", kPerLayer},
                                   {"qk_norm", picked}}) {
    SCOPED_TRACE(kind);
    const test::TemporaryFolder folder;
    const Checkpoint model = test::served_model(kind, pass);
    const ExportReport report = export_model(model, "transformers_code", {"float32"}, folder / "out");
    const Checkpoint again = load_checkpoint(folder / "out");
    EXPECT_EQ(again.decoder.spec(), model.decoder.spec());
    EXPECT_EQ(test::logit_difference(again.decoder, model.decoder), 0);
    EXPECT_TRUE(test::verdict_of(report, "transformers").loads);
    EXPECT_FALSE(test::verdict_of(report, "vLLM").loads);
    for (const char* name : {kConfigurationFile, kModelingFile, "README.md"})
      EXPECT_TRUE(std::filesystem::exists(folder / "out" / name)) << name;
    const Json config = read_json(folder / "out" / "config.json");
    EXPECT_EQ(config.at("model_type"), kCodeType);
    EXPECT_EQ(config.at("latent_layers").size(), 2U);
    EXPECT_EQ(config.at("rope_frequencies").size(), 4U);
    EXPECT_EQ(config.at("use_sliding_window"), std::string(kind) == "window");
  }
}

/// A model with random weights and layers of this kind, or after that as `change` makes them.
Checkpoint coded_model(const std::string& kind, const std::function<void(ModelSpec&)>& change = {}) {
  ModelSpec spec = test::spec_with_attention(kind, "gqa");
  if (change) change(spec);
  Checkpoint model{test::tiny_decoder(spec, at::kFloat), {}, {}};
  model.config = make_config(model.decoder.spec());
  return model;
}

TEST(TransformersCode, HoldsMeanKeysAndUnconvertedLayers) {
  const auto first_unconverted = [](ModelSpec& spec) {
    spec.layers[0].attention = test::spec_with_attention("grouped_query", "gqa").layers[0].attention;
  };
  for (const auto& [kind, change, kinds] :
       {std::tuple{"mkla", std::function<void(ModelSpec&)>(), Json{"mkla", "mkla", "mkla"}},
        std::tuple{"latent", std::function<void(ModelSpec&)>(first_unconverted),
                   Json{"grouped_query", "latent", "latent"}}}) {
    SCOPED_TRACE(kind);
    const test::TemporaryFolder folder;
    const Checkpoint model = coded_model(kind, change);
    export_model(model, "transformers_code", {"float32"}, folder / "out");
    const Json layers = read_json(folder / "out" / "config.json").at("latent_layers");
    for (std::size_t i = 0; i < layers.size(); ++i) {
      EXPECT_EQ(layers[i].at("kind"), kinds[i]);
      EXPECT_GT(layers[i].at("scale").get<double>(), 0);
    }
    const Checkpoint again = load_checkpoint(folder / "out");
    EXPECT_EQ(again.decoder.spec().layers, model.decoder.spec().layers);
    EXPECT_EQ(test::logit_difference(again.decoder, model.decoder), 0);
  }
}

TEST(TransformersCode, RefusesOtherKindsOfAttention) {
  const test::TemporaryFolder folder;
  const auto refusal = [&](const Checkpoint& model, const ExportRequest& request) {
    return test::message_of<ConfigError>([&] { export_model(model, "transformers_code", request, folder / "out"); });
  };
  EXPECT_THAT(refusal(test::tiny_checkpoint("gqa"), {"float32"}), HasSubstr("all layers are of kind grouped_query"));
  EXPECT_THAT(refusal(coded_model("shared_attention"), {"float32"}),
              AllOf(HasSubstr("layer 1 is of kind shared_attention"), HasSubstr("latent, mkla, grouped_query")));
  EXPECT_THAT(refusal(coded_model("mfa"), {"float32"}), HasSubstr("layer 0 is of kind mfa"));
  EXPECT_THAT(refusal(test::served_model("gqa", kPerLayer), {.dtype = "float32", .pad = true}),
              HasSubstr("--pad is for engines' own classes"));
  EXPECT_THAT(refusal(coded_model("latent",
                                  [](ModelSpec& spec) {
                                    spec.rope_scaling.type = "dynamic";
                                    spec.rope_scaling.factor = 2;
                                    spec.rope_scaling.original_positions = 64;
                                  }),
                      {"float32"}),
              HasSubstr("rope_scaling = dynamic changes frequencies"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace mla
