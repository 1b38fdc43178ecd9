// What a forward pass leaves for the backward pass, in bfloat16 where products are.
#include "core/ops/kept_activations.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <vector>

#include "core/device/counted_memory.h"
#include "core/model/decoder.h"
#include "core/ops/feed_forward.h"
#include "core/ops/kernels.h"
#include "core/ops/products.h"
#include "core/ops/rms_norm.h"
#include "tests/support/random_tensors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::normal;

TEST(KeptActivations, AreRoundedWhereProductsAre) {
  const at::Tensor x = normal({3, 5, 7}, at::kFloat, 1), wide = x.to(at::kDouble);
  EXPECT_TRUE(kept(x).is_same(x));
  const ProductsScope scope(Products::kBFloat16);
  EXPECT_TRUE(kept(wide).is_same(wide)) << "float64 stays what it is";
  for (const at::Tensor& view : {x, x.transpose(1, 2), x.slice(2, 1, 4), x[1]}) {
    const at::Tensor there = kept(view);
    EXPECT_EQ(there.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(taken(there, at::kFloat).equal(view.to(at::kBFloat16).to(at::kFloat)));
  }
}

TEST(KeptActivations, AreRoundedAsLibTorchRounds) {
  const ProductsScope scope(Products::kBFloat16);
  const float large = std::numeric_limits<float>::max(), tiny = std::numeric_limits<float>::denorm_min(),
              infinite = std::numeric_limits<float>::infinity(), none = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor x = at::cat(
      {at::tensor({0.F, -0.F, 1.00390625F, 1.01171875F, -1.00390625F, large, -large, tiny, infinite, -infinite}),
       normal({100003}, at::kFloat, 1)});
  const at::Tensor there = kept(x), again = taken(there, at::kFloat);
  EXPECT_TRUE(there.view(at::kShort).equal(x.to(at::kBFloat16).view(at::kShort)));
  EXPECT_TRUE(again.view(at::kInt).equal(x.to(at::kBFloat16).to(at::kFloat).view(at::kInt)));
  EXPECT_TRUE(taken(kept(at::tensor({none, -none})), at::kFloat).isnan().all().item<bool>());
}

TEST(KeptActivations, AreSharedByNeighboursWhateverTheirShape) {
  const ProductsScope scope(Products::kBFloat16);
  const at::Tensor x = normal({2, 6, 4}, at::kFloat, 1), heads = x.view({2, 6, 2, 2}).transpose(1, 2);
  const at::Tensor first = kept(heads), second = kept(x);
  EXPECT_TRUE(first.is_alias_of(second));
  EXPECT_TRUE(taken(second, at::kFloat).equal(x.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_FALSE(kept(x[0]).is_alias_of(second)) << "a part of it";
  const at::Tensor before = kept(x);
  x.add_(1);
  EXPECT_TRUE(taken(kept(x), at::kFloat).equal(x.to(at::kBFloat16).to(at::kFloat))) << "changed since";
  at::Tensor gone = normal({50}, at::kFloat, 2);
  kept(gone);
  for (std::uint64_t seed = 3; seed < 20; ++seed) {  // most likely at the same place in memory
    gone = at::Tensor();
    gone = normal({50}, at::kFloat, seed);
    EXPECT_TRUE(taken(kept(gone), at::kFloat).equal(gone.to(at::kBFloat16).to(at::kFloat)));
  }
}

/// Gradients of sum(result * direction) for the inputs.
std::vector<at::Tensor> gradients(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& function,
                                  const std::vector<at::Tensor>& inputs, at::ScalarType dtype) {
  const at::AutoGradMode with_gradients(true);
  std::vector<at::Tensor> leaves, found;
  for (const at::Tensor& input : inputs) leaves.push_back(input.to(dtype).detach().clone().requires_grad_(true));
  const at::Tensor result = function(leaves);
  result.backward(normal(result.sizes().vec(), at::kDouble, 99).to(dtype));
  for (const at::Tensor& leaf : leaves) found.push_back(leaf.grad().to(at::kDouble));
  return found;
}

/// Numbers of bfloat16 have 8 bits: each is off by 2^-9 at the most, and their sums by less.
void expect_same_but_for_rounding(const std::function<at::Tensor(const std::vector<at::Tensor>&)>& function,
                                  const std::vector<at::Tensor>& inputs) {
  const std::vector<at::Tensor> exact = gradients(function, inputs, at::kDouble);
  const ProductsScope scope(Products::kBFloat16);
  const std::vector<at::Tensor> found = gradients(function, inputs, at::kFloat);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const double off = (found[i] - exact[i]).norm().item<double>() / exact[i].norm().item<double>();
    EXPECT_GT(off, 1e-5) << "input " << i;
    EXPECT_LT(off, 1.0 / 128) << "input " << i;
  }
}

TEST(KeptActivations, GiveTheGradientsOfNorms) {
  expect_same_but_for_rounding([](const auto& inputs) { return rms_norm(inputs[0], inputs[1], 1e-5); },
                               {normal({4, 9, 32}, at::kDouble, 1), normal({32}, at::kDouble, 2)});
}

TEST(KeptActivations, GiveTheGradientsOfFeedForwardParts) {
  expect_same_but_for_rounding(
      [](const auto& inputs) { return feed_forward(inputs[0], inputs[1], inputs[2], inputs[3]); },
      {normal({2, 20, 16}, at::kDouble, 1), normal({24, 16}, at::kDouble, 2), normal({24, 16}, at::kDouble, 3),
       normal({16, 24}, at::kDouble, 4)});
}

TEST(KeptActivations, TakeHalfTheMemoryOfAForwardPass) {
  if (!kernels_are_on()) GTEST_SKIP() << "LibTorch's attention keeps what it was given";
  UniformModel model = test::tiny_model("gqa");
  model.model.hidden = 128;
  model.feed_forward.width = 384;
  Decoder decoder = test::tiny_decoder(model.spec(), at::kFloat);
  decoder.visit_parameters([](const std::string&, at::Tensor& tensor) { tensor.requires_grad_(true); });
  const at::AutoGradMode with_gradients(true);
  const auto bytes = [&](Products products) {
    decoder.products = products;
    ForwardContext context = decoder.context(64);
    at::Tensor x = normal({2, 64, 128}, at::kFloat, 1).requires_grad_(true);
    const CountedMemory memory;
    for (std::size_t i = 0; i < decoder.layers.size(); ++i) x = decoder.apply_layer(i, x, context);
    context.slots.clear();
    return static_cast<double>(memory.now());
  };
  // Rotations' tables, sums of softmax and what layers hand on stay float32.
  const double ratio = bytes(Products::kBFloat16) / bytes(Products::kFloat32);
  EXPECT_LT(ratio, 0.6);
  EXPECT_GT(ratio, 0.45);
}

}  // namespace
}  // namespace mla
