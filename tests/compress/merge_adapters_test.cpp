// Adapters merged by a pass, before what needs dense matrices.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/adapted_weights.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kSameMerged = 1e-10;  // float64 logits

std::unique_ptr<Pass> merging_pass() {
  return Registry<Pass>::instance().make({{"name", "merge_adapters"}}, "compress[0]");
}

Decoder with_random_adapters() {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("biases"));
  decoder.replace_maps([](const std::string& name, Linear& map) {
    if (!name.ends_with("v_proj")) return;
    map = with_adapters(map, {3, 6}, test::normal({3, map.columns()}, at::kDouble, 4));
    map.visit("m", [](const std::string& part, at::Tensor& tensor) {
      if (part == "m.lora_B.weight") tensor = test::normal(tensor.sizes().vec(), at::kDouble, 5) / 8;
    });
  });
  return decoder;
}

TEST(MergeAdapters, GivesADenseModelOfTheSameFunction) {
  Decoder decoder = with_random_adapters();
  const at::Tensor ids = test::random_ids(decoder.spec(), 2, 12), logits = decoder.forward(ids);
  const auto convert = Registry<Pass>::instance().make(
      {{"name", "mha2mla"}, {"rope", {{"name", "high"}, {"pairs", 1}}}, {"low_rank", {{"name", "none"}}}},
      "compress[1]");
  EXPECT_THAT(test::message_of<ConfigError>([&] { convert->plan(decoder.spec()); }),
              HasSubstr("is held as LoRA adapters of rank 3 beside dense weights, and this pass computes with dense "
                        "matrices: let merge_adapters come before it"));
  run_pass("merge_adapters", *merging_pass(), decoder, {});
  EXPECT_TRUE(model_storage(decoder.spec()).empty());
  EXPECT_LT(test::largest_difference(decoder.forward(ids), logits), kSameMerged);
  EXPECT_NO_THROW(convert->plan(decoder.spec()));
  EXPECT_EQ(test::message_of<ConfigError>([&] { merging_pass()->plan(decoder.spec()); }),
            "compress[0]: the model has no adapters");
}

}  // namespace
}  // namespace mla
