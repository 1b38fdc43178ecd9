// Attention by its weights: soft caps by their definition, and long sequences in blocks.
#include "core/attention/attention_weights.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/soft_cap.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kSameWeights = 1e-12;
constexpr double kSameBlocks = 1e-5;

at::Tensor waves(const std::vector<std::int64_t>& shape, double step) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return (at::arange(count, at::kDouble) * step).sin().view(shape) * 3;
}

TEST(SoftCap, IsItsDefinitionAndItsSlopeTheDerivative) {
  const at::Tensor x = waves({20}, 0.7).requires_grad_(true);
  const at::Tensor capped = soft_capped(x, 2);
  EXPECT_LT(test::largest_difference(capped.detach(), (x.detach() / 2).tanh() * 2), kSameWeights);
  capped.sum().backward();
  EXPECT_LT(test::largest_difference(x.grad(), soft_cap_slope(capped.detach(), 2)), kSameWeights);
}

TEST(AttentionWeights, LogitsAreCappedBeforeTheMask) {
  const c10::InferenceMode inference;
  const at::Tensor q = waves({1, 2, 5, 4}, 0.3), k = waves({1, 1, 5, 4}, 0.5);
  const at::Tensor logits = soft_capped(at::matmul(q, k.transpose(2, 3)) * 0.7, 1.5);
  const at::Tensor hidden = at::ones({5, 5}, at::kBool).triu(1);
  const at::Tensor expected = logits.masked_fill(hidden, -INFINITY).softmax(-1);
  EXPECT_LT(test::largest_difference(attention_weights(q, k, 0.7, 0, {}, 1.5), expected), kSameWeights);
}

TEST(AttentionWeights, BlocksOfALongSequenceAreTheWhole) {
  const c10::InferenceMode inference;
  const std::int64_t length = 2200;
  const at::Tensor q = waves({1, 4, length, 4}, 0.31).to(at::kFloat), k = waves({1, 2, length, 4}, 0.53).to(at::kFloat),
                   v = waves({1, 2, length, 3}, 0.17).to(at::kFloat);
  for (const std::int64_t window : {std::int64_t{0}, std::int64_t{300}}) {
    for (const bool apart : {false, true}) {
      ForwardContext context;
      if (apart) context.documents = at::arange(length, at::kLong).div(700, "floor").mul(700).unsqueeze(0);
      const at::Tensor whole = weighted_values(attention_weights(q, k, 0.5, window, context, 2), v);
      EXPECT_LT(test::largest_difference(attend_by_weights(q, k, v, 0.5, window, context, 2), whole), kSameBlocks);
    }
  }
}

}  // namespace
}  // namespace mla
