// The differentiable building blocks against their definitions written with ATen, values and gradients.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "core/ops/causal_attention.h"
#include "core/ops/checkpoint_block.h"
#include "core/ops/feed_forward.h"
#include "core/ops/matrix_product.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rotary_embedding.h"
#include "core/ops/softmax_loss.h"
#include "core/ops/vector_math.h"
#include "tests/support/random_tensors.h"

namespace mla {
namespace {

using Tensors = std::vector<at::Tensor>;
using Operation = std::function<at::Tensor(const Tensors&)>;

using test::normal;

/// Of values and gradients whose size is about 1; sums run over at most some hundred terms.
double tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-12 : 2e-4; }

void expect_close(const at::Tensor& found, const at::Tensor& expected, double limit, const std::string& what) {
  ASSERT_EQ(found.sizes(), expected.sizes()) << what;
  EXPECT_LT((found - expected).abs().max().item<double>(), limit) << what;
}

/// Same value, and same gradient of a random projection of it with respect to every input.
void expect_same(const Operation& found, const Operation& expected, const Tensors& inputs) {
  const at::AutoGradMode with_gradients(true);
  const double limit = tolerance(inputs[0].scalar_type());
  Tensors left, right;
  for (const at::Tensor& input : inputs) {
    left.push_back(input.detach().clone().requires_grad_(true));
    right.push_back(input.detach().clone().requires_grad_(true));
  }
  const at::Tensor a = found(left), b = expected(right);
  expect_close(a, b, limit, "value");
  const at::Tensor weights = normal(b.sizes().vec(), b.scalar_type(), 99);
  (a * weights).sum().backward();
  (b * weights).sum().backward();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    expect_close(left[i].grad(), right[i].grad(), limit * 10, "gradient of input " + std::to_string(i));
  }
}

class Ops : public testing::TestWithParam<at::ScalarType> {
 protected:
  at::Tensor random(std::vector<std::int64_t> shape) { return normal(std::move(shape), GetParam(), ++seed_); }

 private:
  std::uint64_t seed_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Dtypes, Ops, testing::Values(at::kFloat, at::kDouble),
                         [](const auto& test) { return std::string(c10::toString(test.param)); });

TEST_P(Ops, RmsNorm) {
  constexpr double kEpsilon = 1e-3;
  expect_same([](const Tensors& t) { return rms_norm(t[0], t[1], kEpsilon); },
              [](const Tensors& t) { return t[0] / (t[0].square().mean(-1, true) + kEpsilon).sqrt() * t[1]; },
              {random({3, 7, 37}), random({37})});
}

TEST_P(Ops, FeedForward) {
  expect_same(
      [](const Tensors& t) { return feed_forward(t[0], t[1], t[2], t[3]); },
      [](const Tensors& t) { return at::linear(at::silu(at::linear(t[0], t[1])) * at::linear(t[0], t[2]), t[3]); },
      {random({2, 5, 13}), random({21, 13}) * 0.3, random({21, 13}) * 0.3, random({13, 21}) * 0.3});
}

TEST_P(Ops, DenseLinear) {
  // The second size is large enough for oneDNN, the first is not.
  for (const std::int64_t width : {13, 320}) {
    expect_same([](const Tensors& t) { return dense_linear(t[0], t[1], t[2]); },
                [](const Tensors& t) { return at::linear(t[0], t[1], t[2]); },
                {random({3, 50, width}), random({width + 5, width}) * 0.1, random({width + 5})});
  }
}

TEST_P(Ops, MatrixProductsOfAnyStrides) {
  const at::Tensor a = random({150, 310}) * 0.1, b = random({310, 190});
  const at::Tensor expected = at::matmul(a.to(at::kDouble), b.to(at::kDouble)).to(GetParam());
  for (const at::Tensor& left : {a, a.t().contiguous().t()}) {
    for (const at::Tensor& right : {b, b.t().contiguous().t()}) {
      expect_close(matrix_product(left, right), expected, tolerance(GetParam()), "product");
    }
  }
  expect_close(matrix_product(at::cat({a, a}, 1).narrow(1, 100, 310), at::cat({b, b}, 1).narrow(1, 50, 190)),
               at::matmul(at::cat({a, a}, 1).narrow(1, 100, 310), at::cat({b, b}, 1).narrow(1, 50, 190)),
               tolerance(GetParam()), "product of parts");
}

/// Pairs (k, pairs + k) turned by complex multiplication.
at::Tensor rotated(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  const std::int64_t pairs = cosine.size(-1);
  const at::Tensor turned = at::complex(x.narrow(-1, 0, pairs), x.narrow(-1, pairs, pairs)) * at::complex(cosine, sine);
  return at::cat({at::real(turned), at::imag(turned), x.narrow(-1, 2 * pairs, x.size(-1) - 2 * pairs)}, -1);
}

TEST_P(Ops, RotateHeadsWithOneTable) {
  const at::Tensor angles = random({6, 4});
  expect_same([&](const Tensors& t) { return rotate_heads(t[0].transpose(1, 2), angles.cos(), angles.sin()); },
              [&](const Tensors& t) { return rotated(t[0].transpose(1, 2), angles.cos(), angles.sin()); },
              {random({2, 6, 3, 11})});
}

TEST_P(Ops, RotateHeadsWithATableForEachRunOfHeads) {
  const at::Tensor angles = random({2, 6, 4}), repeated = angles.repeat_interleave(3, 0);
  expect_same([&](const Tensors& t) { return rotate_heads(t[0], angles.cos(), angles.sin()); },
              [&](const Tensors& t) { return rotated(t[0], repeated.cos(), repeated.sin()); }, {random({2, 6, 6, 8})});
}

TEST_P(Ops, RotateHeadsByTheFirstRowsOfLongerTables) {
  const at::Tensor x = random({2, 6, 4, 8}), angles = random({2, 6, 4}), own = angles.narrow(1, 0, 4).contiguous();
  EXPECT_TRUE(at::equal(rotate_heads(x, angles.cos(), angles.sin()), rotate_heads(x, own.cos(), own.sin())));
  EXPECT_TRUE(
      at::equal(rotate_heads(x, angles[0].cos(), angles[0].sin()), rotate_heads(x, own[0].cos(), own[0].sin())));
}

/// All scores at once; `first` [batch, length] may be undefined.
at::Tensor plain_attention(const Tensors& t, double scale, const at::Tensor& first) {
  const std::int64_t group = t[0].size(1) / t[1].size(1), length = t[0].size(2);
  const at::Tensor k = t[1].repeat_interleave(group, 1), v = t[2].repeat_interleave(group, 1);
  const at::Tensor position = at::arange(length);
  at::Tensor visible = position.unsqueeze(0).le(position.unsqueeze(1)).unsqueeze(0);
  if (first.defined()) visible = visible.logical_and(position.ge(first.unsqueeze(2)));
  const at::Tensor scores = at::matmul(t[0], k.transpose(2, 3)) * scale;
  const at::Tensor hidden = visible.logical_not().unsqueeze(1);
  return at::matmul(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()).softmax(-1), v);
}

// Lengths around the kernel's blocks of 144 queries, and around its register tiles.
TEST_P(Ops, CausalAttention) {
  for (const std::int64_t length : {1, 5, 17, 144, 145, 300}) {
    for (const std::int64_t kv_heads : {1, 2, 4}) {
      SCOPED_TRACE(testing::Message() << length << " tokens, " << kv_heads << " KV heads");
      expect_same([](const Tensors& t) { return causal_self_attention(t[0], t[1], t[2], 0.4, {}); },
                  [](const Tensors& t) { return plain_attention(t, 0.4, {}); },
                  {random({2, 4, length, 8}), random({2, kv_heads, length, 8}), random({2, kv_heads, length, 5})});
    }
  }
}

// Widths around the kernel's vectors; keys wider than values, and narrower.
TEST_P(Ops, CausalAttentionOfAnyWidth) {
  for (const auto& [width, value_width] : {std::pair<int, int>{1, 3}, {7, 16}, {24, 9}, {33, 40}, {48, 31}}) {
    SCOPED_TRACE(testing::Message() << "width " << width << ", of values " << value_width);
    const double scale = 1 / std::sqrt(width);
    expect_same([=](const Tensors& t) { return causal_self_attention(t[0], t[1], t[2], scale, {}); },
                [=](const Tensors& t) { return plain_attention(t, scale, {}); },
                {random({1, 6, 155, width}), random({1, 2, 155, width}), random({1, 2, 155, value_width})});
  }
}

// Long enough for the keys to be split into runs, each with its own part of the queries' gradient.
TEST_P(Ops, CausalAttentionOfALongSequence) {
  constexpr std::int64_t kLength = 1100;
  const at::Tensor position = at::arange(kLength);
  for (const at::Tensor& first : {at::Tensor(), (position - 200).clamp_min(0).unsqueeze(0)}) {
    expect_same([&](const Tensors& t) { return causal_self_attention(t[0], t[1], t[2], 0.4, first); },
                [&](const Tensors& t) { return plain_attention(t, 0.4, first); },
                {random({1, 2, kLength, 8}), random({1, 1, kLength, 8}), random({1, 1, kLength, 8})});
  }
}

// Logits that grow and fall by far more than the headroom of the running softmax.
TEST_P(Ops, CausalAttentionOfLargeLogits) {
  const at::Tensor size = at::arange(300, at::kDouble).div(40).sin().mul(30).view({1, 1, 300, 1}).to(GetParam());
  const at::Tensor q = at::ones({1, 2, 300, 8}, GetParam()), k = size * at::ones({1, 1, 300, 8}, GetParam());
  const at::Tensor v = random({1, 1, 300, 8});
  const at::Tensor found = causal_self_attention(q, k, v, 0.4, {});
  const at::Tensor expected = plain_attention({q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble)}, 0.4, {});
  expect_close(found.to(at::kDouble), expected, tolerance(GetParam()), "value");
}

// Sums run in an order of their own, whoever computes them.
TEST_P(Ops, CausalAttentionDoesNotDependOnThreads) {
  const at::AutoGradMode with_gradients(true);
  const Tensors inputs{random({1, 4, 1100, 16}), random({1, 2, 1100, 16}), random({1, 2, 1100, 16})};
  const auto results = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    Tensors leaves;
    for (const at::Tensor& input : inputs) leaves.push_back(input.detach().clone().requires_grad_(true));
    const at::Tensor out = causal_self_attention(leaves[0], leaves[1], leaves[2], 0.25, {});
    out.backward(inputs[0]);
    at::set_num_threads(before);
    return Tensors{out.detach(), leaves[0].grad(), leaves[1].grad(), leaves[2].grad()};
  };
  const Tensors one = results(1), three = results(3);
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], three[i])) << i;
}

TEST_P(Ops, CausalAttentionWithinDocuments) {
  constexpr std::int64_t kLength = 300;
  const at::Tensor position = at::arange(kLength);
  const at::Tensor documents =
      at::where(position.lt(200), position.ge(3).to(at::kLong) * 3, at::full({}, 200, at::kLong));
  const at::Tensor window = (position - 20).clamp_min(0);
  const at::Tensor first = at::stack({documents, window});
  expect_same([&](const Tensors& t) { return causal_self_attention(t[0], t[1], t[2], 0.4, first); },
              [&](const Tensors& t) { return plain_attention(t, 0.4, first); },
              {random({2, 4, kLength, 8}), random({2, 2, kLength, 8}), random({2, 2, kLength, 8})});
}

TEST_P(Ops, CausalAttentionReadsStridedHeads) {
  expect_same(
      [](const Tensors& t) {
        const at::Tensor heads = t[0].view({2, 9, 4, 8}).transpose(1, 2);
        return causal_self_attention(heads.narrow(1, 0, 2), heads.narrow(1, 2, 1), heads.narrow(1, 3, 1), 1, {});
      },
      [](const Tensors& t) {
        const at::Tensor heads = t[0].view({2, 9, 4, 8}).transpose(1, 2);
        return plain_attention({heads.narrow(1, 0, 2), heads.narrow(1, 2, 1), heads.narrow(1, 3, 1)}, 1, {});
      },
      {random({2, 9, 32})});
}

at::Tensor plain_loss(const at::Tensor& logits, const at::Tensor& teacher, const at::Tensor& targets,
                      const SoftmaxLoss& loss) {
  const at::Tensor student = (logits / loss.temperature).log_softmax(1),
                   reference = (teacher / loss.temperature).log_softmax(1);
  const at::Tensor divergence = (reference.exp() * (reference - student)).sum();
  return at::cross_entropy_loss(logits, targets, {}, at::Reduction::Sum) * loss.cross_entropy +
         divergence * (loss.distillation * loss.temperature * loss.temperature);
}

TEST_P(Ops, SoftmaxLosses) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor targets = at::tensor({0, 40, 17}, at::kLong);
  for (const SoftmaxLoss& loss :
       {SoftmaxLoss{}, SoftmaxLoss{0.5, 0, 1}, SoftmaxLoss{0, 1, 2}, SoftmaxLoss{0.3, 0.7, 0.5}}) {
    const at::Tensor teacher = random({3, 41}) * 2, logits = random({3, 41}).mul_(3).requires_grad_(true);
    const at::Tensor expected = plain_loss(logits, teacher, targets, loss);
    (expected * 0.25).backward();
    at::Tensor found = logits.detach().clone();
    const double sum = softmax_loss_gradient(found, targets, teacher, loss, 0.25).item<double>();
    EXPECT_NEAR(sum, expected.item<double>(), tolerance(GetParam()));
    expect_close(found, logits.grad(), tolerance(GetParam()), "gradient");
  }
}

TEST_P(Ops, SoftmaxNll) {
  const at::Tensor logits = random({4, 1003}) * 5, targets = at::tensor({0, 1002, 500, 7}, at::kLong);
  expect_close(softmax_nll(logits, targets), at::cross_entropy_loss(logits, targets, {}, at::Reduction::None),
               tolerance(GetParam()) / 20, "nll");
  // A target that all but holds the whole probability, where the two logarithms are large: off by the sum's rounding.
  const at::Tensor sure = at::tensor({1000.0, 986.0, 900.0}, logits.options()).unsqueeze(0);
  EXPECT_NEAR(softmax_nll(sure, at::zeros({1}, at::kLong)).item<double>(), std::log1p(std::exp(-14.0)), 6e-8);
}

TEST(VectorExp, IsExactToAUnitInTheLastPlace) {
  for (double x = -86.9; x < 87.9; x += 0.0137) {
    const float input = static_cast<float>(x);
    EXPECT_NEAR(static_cast<double>(vector_exp(input)) / std::exp(static_cast<double>(input)), 1, 1.5e-7) << x;
  }
  EXPECT_LT(vector_exp(-1e30F), 1e-37F);
}

TEST(CheckpointBlock, GivesTheSameGradientsAndRunsTwice) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor weight = normal({6, 6}, at::kDouble, 1).requires_grad_(true);
  const at::Tensor x = normal({4, 6}, at::kDouble, 2).requires_grad_(true);
  int runs = 0;
  const auto block = [&](const at::Tensor& input) {
    ++runs;
    return at::tanh(at::matmul(input, weight));
  };
  block(block(x)).square().sum().backward();
  const at::Tensor expected = weight.grad().clone(), expected_x = x.grad().clone();
  weight.mutable_grad().reset();
  x.mutable_grad().reset();
  runs = 0;
  checkpoint_block(checkpoint_block(x, block), block).square().sum().backward();
  EXPECT_EQ(runs, 4);
  EXPECT_TRUE(at::equal(weight.grad(), expected));
  EXPECT_TRUE(at::equal(x.grad(), expected_x));
}

}  // namespace
}  // namespace mla
