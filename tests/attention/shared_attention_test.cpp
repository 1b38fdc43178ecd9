// Layers that reuse the attention weights of one before them.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/grouped_query.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kSameOutput = 1e-10;

std::unique_ptr<Pass> share(const Json& layers) {
  return Registry<Pass>::instance().make({{"name", "share_attention"}, {"layers", layers}}, "compress[0]");
}

class SharedAttention : public testing::TestWithParam<std::string> {
 protected:
  SharedAttention() {
    UniformModel uniform = test::tiny_model(GetParam());
    uniform.layers = 4;
    if (!uniform.windows.empty()) uniform.windows.assign(4, uniform.windows.front());
    source = std::make_unique<Decoder>(test::tiny_decoder(uniform.spec()));
    ids = test::random_ids(source->spec(), 2, 14);
  }
  std::unique_ptr<Decoder> source;
  at::Tensor ids;
  c10::InferenceMode inference;
};

TEST_P(SharedAttention, NoLayersIsTheSourceModel) {
  Decoder decoder = source->clone();
  const PassReport report = run_pass("share_attention", *share(Json::array()), decoder, {});
  EXPECT_EQ(report.after, source->spec());
  EXPECT_TRUE(at::equal(decoder.forward(ids), source->forward(ids)));
}

// Queries and keys of a layer that gets the same input as the one before compute the same weights.
TEST_P(SharedAttention, TheWeightsALayerWouldComputeAreTheOnesItReuses) {
  Decoder decoder = source->clone();
  DecoderLayer& first = decoder.layers[1];
  first.attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name.starts_with("o_proj")) tensor.zero_();
  });
  first.down.to_dense().zero_();
  TensorMap of_first;
  first.attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) { of_first[name] = tensor; });
  decoder.layers[2].attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name.starts_with("q_") || name.starts_with("k_")) tensor.copy_(of_first.at(name));
  });
  decoder.layers[2].attention_norm.copy_(first.attention_norm);
  Decoder shared = decoder.clone();
  run_pass("share_attention", *share({2}), shared, {});
  EXPECT_LT(test::largest_difference(shared.forward(ids), decoder.forward(ids)), kSameOutput);
}

TEST_P(SharedAttention, CachesValuesAloneAndDropsQueriesAndKeys) {
  Decoder decoder = source->clone();
  const PassReport report = run_pass("share_attention", *share({1, 3}), decoder, {});
  const HeadFields heads = *source->spec().attention(0).heads();
  EXPECT_EQ(cached_elements(report.before) - cached_elements(report.after), 2 * heads.kv_heads * heads.head_dim);
  EXPECT_GT(test::largest_difference(decoder.forward(ids), source->forward(ids)), 1e-3);
  // Converted afterwards: layers without keys stay as they are, the others hand on weights of their own.
  PassInputs inputs;
  inputs.arithmetic = at::kDouble;
  const Decoder before = decoder.clone();
  const auto latent = Registry<Pass>::instance().make(
      {{"name", "mha2mla"}, {"rope", {{"name", "all"}}}, {"low_rank", {{"name", "none"}}}}, "compress[1]");
  const PassReport converted = run_pass("mha2mla", *latent, decoder, inputs);
  EXPECT_LT(test::largest_difference(decoder.forward(ids), before.forward(ids)), kSameOutput);
  EXPECT_EQ(converted.after.attention(0).kind(), "latent");
  EXPECT_EQ(converted.after.attention(1).kind(), "shared_attention");
  DecoderCache cache = decoder.make_cache(2);
  const at::Tensor whole = decoder.forward(ids).select(1, 13);
  decoder.forward_cached(ids.narrow(1, 0, 9), cache);
  decoder.forward_cached(ids.narrow(1, 9, 4), cache);
  EXPECT_LT(test::largest_difference(decoder.forward_cached(ids.narrow(1, 13, 1), cache), whole), kSameOutput);
}

INSTANTIATE_TEST_SUITE_P(Kinds, SharedAttention, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(ShareAttentionPass, RefusesWhatCannotShare) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");
  const auto refusal = [&](const ModelSpec& model, const Json& layers) {
    return test::message_of<ConfigError>([&] { share(layers)->plan(model); });
  };
  EXPECT_EQ(refusal(spec, {0}), "compress[0].layers[0] = 0: expected a layer from 1 to 2");
  EXPECT_EQ(refusal(spec, {1, 3}), "compress[0].layers[1] = 3: expected a layer from 1 to 2");
  EXPECT_EQ(refusal(spec, {1, 1}), "compress[0].layers[0] = 1: is listed twice");
  EXPECT_THAT(refusal(test::spec_with_attention("latent"), {1}),
              HasSubstr("is of kind latent; expected grouped_query"));
}

TEST(SharedAttentionSpec, NeedsALayerThatComputesWeights) {
  ModelSpec spec = test::spec_with_attention("shared_attention");
  EXPECT_EQ(group_boundaries(spec), (std::vector<std::size_t>{0, 3}));
  EXPECT_EQ(wanted_slots(spec)[0], std::vector<std::string>{kAttentionWeights});
  EXPECT_TRUE(wanted_slots(spec)[1].empty());
  spec.layers.erase(spec.layers.begin());
  EXPECT_THAT(test::message_of<ConfigError>([&] { check_spec(spec, "layers"); }),
              HasSubstr("layers[0]: reads the attention_weights of a layer before it, and none has any"));
}

}  // namespace
}  // namespace mla
