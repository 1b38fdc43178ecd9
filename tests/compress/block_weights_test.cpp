// quantize_weights with GGUF's blocks: models and conversions of them, at the same bits as a file's.
#include "core/attention/block_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/model/checkpoint.h"
#include "core/model/model_config.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

/// Of logits, relative to all of them: step by step, as single codes of rows flip; and 8 bits of rows and weights
/// alike.
constexpr double kSameBlockSteps = 0.02, kEightBits = 0.06;

double relative_norm(const at::Tensor& a, const at::Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }

void run_block_pass(Decoder& decoder, const Json& config) {
  PassInputs inputs;
  inputs.arithmetic = decoder.compute_dtype;
  run_pass(config.at("name").get<std::string>(), *Registry<Pass>::instance().make(config, "compress[0]"), decoder,
           inputs);
}

Json as_blocks(const std::string& type) {
  return {
      {"name", "quantize_weights"}, {"blocks", type}, {"maps", {"attention", "feed_forward", "embedding", "output"}}};
}

/// A kind of tiny model, the blocks, and whether it is converted before.
class BlockModel : public testing::TestWithParam<std::tuple<std::string, std::string, bool>> {
 protected:
  Decoder source() const {
    Decoder decoder = test::tiny_decoder(test::tiny_spec(std::get<0>(GetParam())), at::kFloat);
    const bool qk_norm = decoder.spec().attention(0).heads()->qk_norm;
    if (std::get<2>(GetParam()))
      run_block_pass(decoder, {{"name", "mha2mla"},
                               {"rope", {{"name", "high"}, {"pairs", 1}}},
                               {"low_rank", {{"name", qk_norm ? "value_svd" : "joint_svd"}, {"d_kv", 8}}}});
    return decoder;
  }
  at::Tensor ids = test::random_ids(test::tiny_spec("gqa"), 2, 12);
};

TEST_P(BlockModel, IsItsDenseTwinButForRounding) {
  const at::NoGradGuard no_grad;
  const Decoder dense = source();
  Decoder held = dense.clone();
  run_block_pass(held, as_blocks(std::get<1>(GetParam())));
  EXPECT_EQ(held.weight_bytes(), held.predicted_weight_bytes());
  EXPECT_EQ(held.parameter_count(), dense.parameter_count());
  const at::Tensor whole = held.forward(ids);
  if (std::get<1>(GetParam()) == "Q8_0") {
    EXPECT_LT(relative_norm(whole, dense.forward(ids)), kEightBits);
  }
  // Where x is not rounded, it is what the decoded matrices give, to the bit.
  Decoder twin = held.clone();
  twin.replace_maps([](const std::string&, Linear& map) {
    if (map.storage()) map = Linear(map.to_dense(), map.bias());
  });
  EXPECT_GT(test::largest_difference(whole, twin.forward(ids)), 0);
  held.compute_dtype = twin.compute_dtype = at::kDouble;
  EXPECT_TRUE(at::equal(held.forward(ids), twin.forward(ids)));
}

TEST_P(BlockModel, CachedIsUncached) {
  const at::NoGradGuard no_grad;
  Decoder held = source();
  run_block_pass(held, as_blocks(std::get<1>(GetParam())));
  // Each row is rounded by itself, and so the same step by step; absorbed products differ in what they round.
  const at::Tensor whole = held.forward(ids);
  held.prepare_decode();
  DecoderCache cache = held.make_cache(2);
  at::Tensor last = held.forward_cached(ids.narrow(1, 0, 6), cache, DecodePath::kExpanded);
  for (std::int64_t t = 6; t < ids.size(1); ++t)
    last = held.forward_cached(ids.narrow(1, t, 1), cache, DecodePath::kExpanded);
  EXPECT_LT(relative_norm(last, whole.select(1, ids.size(1) - 1)), kSameBlockSteps);
}

TEST_P(BlockModel, SavedIsLoaded) {
  const at::NoGradGuard no_grad;
  Checkpoint checkpoint = test::tiny_checkpoint(std::get<0>(GetParam()), at::kFloat);
  checkpoint.decoder = source();
  run_block_pass(checkpoint.decoder, as_blocks(std::get<1>(GetParam())));
  const test::TemporaryFolder folder;
  save_checkpoint(checkpoint, folder.path());
  const Checkpoint loaded = load_checkpoint(folder.path());
  EXPECT_EQ(loaded.decoder.spec(), checkpoint.decoder.spec());
  EXPECT_TRUE(at::equal(loaded.decoder.forward(ids), checkpoint.decoder.forward(ids)));
}

INSTANTIATE_TEST_SUITE_P(Models, BlockModel,
                         testing::Combine(testing::ValuesIn(test::tiny_kinds()),
                                          testing::Values("Q8_0", "Q4_0", "Q4_1"), testing::Bool()),
                         [](const auto& one) {
                           return std::get<0>(one.param) + "_" + std::get<1>(one.param) +
                                  (std::get<2>(one.param) ? "_latent" : "");
                         });

TEST(BlockPass, NumbersWithoutAScaleAreRefusedByName) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  decoder.layers[1].up = Linear(at::full({48, 32}, 1e30F));
  EXPECT_THAT(test::message_of<DataError>([&] { run_block_pass(decoder, as_blocks("Q4_0")); }),
              testing::AllOf(HasSubstr("compress[0]: model.layers.1.mlp.up_proj: holds numbers"), HasSubstr("65504")));
}

}  // namespace
}  // namespace mla
