// Products whose factors are rounded to bfloat16, against the same rounding followed by products in float64. Where the
// processor has no bfloat16 products, the same tests are of what stands in for the kernel.
#include "core/ops/bfloat16_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/base/error.h"
#include "core/device/placement.h"
#include "core/model/decoder.h"
#include "core/ops/bfloat16_kernels.h"
#include "core/ops/feed_forward.h"
#include "core/ops/matrix_product.h"
#include "core/train/loss.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::normal;

at::Tensor as_bfloat16(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kDouble); }

struct Shape {
  std::int64_t rows, inner, columns;
};

// Whole and broken tiles (14 x 32, 32 x 32), odd `inner`, more than one part of it (512), and single rows and columns.
const std::vector<Shape> kShapes = {{14, 64, 32},    {64, 96, 64},   {1, 1, 1},      {33, 67, 45},
                                    {100, 640, 100}, {17, 1033, 31}, {29, 512, 257}, {3, 2049, 500},
                                    {460, 31, 390},  {15, 2, 33},    {500, 2049, 3}};

TEST(BFloat16Product, IsTheProductOfWhatWasRoundedWhateverTheStrides) {
  for (const Shape& shape : kShapes) {
    const at::Tensor a = normal({shape.rows, shape.inner}, at::kFloat, 1),
                     b = normal({shape.inner, shape.columns}, at::kFloat, 2);
    const at::Tensor expected = at::mm(as_bfloat16(a), as_bfloat16(b));
    // A sum of n products of size 1 in float32, in some order.
    const double limit = 2e-7 * static_cast<double>(shape.inner) + 1e-6;
    const at::Tensor a_across = a.t().contiguous().t(), b_along = b.t().contiguous().t(),
                     a_apart = at::stack({a, a}, 2).select(2, 1);
    for (const at::Tensor& left : {a, a_across, a_apart}) {
      for (const at::Tensor& right : {b, b_along}) {
        const at::Tensor found = bfloat16_product(left, right);
        ASSERT_EQ(found.scalar_type(), at::kFloat);
        EXPECT_LT(test::largest_difference(found.to(at::kDouble), expected), limit)
            << shape.rows << " x " << shape.inner << " x " << shape.columns << ", strides " << left.strides() << " "
            << right.strides();
      }
    }
  }
}

TEST(BFloat16Product, IsAddedToWhatIsThere) {
  for (const Shape& shape : kShapes) {
    const at::Tensor a = normal({shape.inner, shape.rows}, at::kFloat, 1).t(),
                     b = normal({shape.inner, shape.columns}, at::kFloat, 2);
    const at::Tensor before = normal({shape.rows, shape.columns}, at::kFloat, 3), sum = before.clone();
    add_bfloat16_product(sum, a, b);
    EXPECT_LT(test::largest_difference(sum, before + bfloat16_product(a, b)),
              2e-7 * static_cast<double>(shape.inner) + 1e-6);
  }
}

TEST(BFloat16Product, EveryUnitOfThisProcessorMultipliesAlike) {
  using Kernel = void (*)(const at::Tensor&, const at::Tensor&, const at::Tensor&, bool);
  for (const auto& [there, kernel] : {std::pair<bool, Kernel>{has_bfloat16_registers(), bfloat16_register_product},
                                      {has_bfloat16_tiles(), bfloat16_tile_product}}) {
    if (!there) continue;
    for (const Shape& shape : kShapes) {
      const at::Tensor a = normal({shape.rows, shape.inner}, at::kFloat, 1),
                       b = normal({shape.inner, shape.columns}, at::kFloat, 2);
      const at::Tensor expected = at::mm(as_bfloat16(a), as_bfloat16(b));
      // The margin beside the result shows whether anything else is written.
      at::Tensor room = at::full({shape.rows + 2, shape.columns}, 7, at::kFloat);
      const at::Tensor out = room.slice(0, 1, shape.rows + 1);
      const double limit = 2e-7 * static_cast<double>(shape.inner) + 1e-6;
      for (const at::Tensor& left : {a, a.t().contiguous().t()}) {
        for (const at::Tensor& right : {b, b.t().contiguous().t()}) {
          kernel(left, right, out, false);
          EXPECT_LT(test::largest_difference(out.to(at::kDouble), expected), limit);
          kernel(left, right, out, true);
          EXPECT_LT(test::largest_difference(out.to(at::kDouble), 2 * expected), 3 * limit);
        }
      }
      EXPECT_TRUE(room[0].eq(7).all().item<bool>());
      EXPECT_TRUE(room[shape.rows + 1].eq(7).all().item<bool>());
    }
  }
}

TEST(BFloat16Product, RoundsToNearestEven) {
  // 1 + 2^-8 lies in the middle of two neighbours, of which 1 is even; 1 + 3 * 2^-8 goes up.
  const at::Tensor a = at::tensor({1.00390625F, 1.01171875F, -1.00390625F, 3.0F}).view({4, 1}), one = at::ones({1, 1});
  EXPECT_TRUE(bfloat16_product(a, one).equal(at::tensor({1.0F, 1.015625F, -1.0F, 3.0F}).view({4, 1})));
}

TEST(BFloat16Product, HandsOnWhatIsNoFiniteNumber) {
  at::Tensor a = at::ones({20, 40}), b = at::ones({40, 70});
  a[3][7] = std::numeric_limits<float>::infinity();
  a[5][1] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor c = bfloat16_product(a, b);
  EXPECT_TRUE(c[3].isinf().all().item<bool>());
  EXPECT_TRUE(c[5].isnan().all().item<bool>());
  EXPECT_TRUE(c[4].eq(40).all().item<bool>());
}

TEST(BFloat16Product, DoesNotDependOnThreadsOrOtherRows) {
  const at::Tensor a = normal({301, 700}, at::kFloat, 1), b = normal({700, 500}, at::kFloat, 2);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const at::Tensor one = bfloat16_product(a, b);
  at::set_num_threads(2);
  const at::Tensor two = bfloat16_product(a, b);
  at::set_num_threads(threads);
  EXPECT_TRUE(one.equal(two));
  if (has_fast_bfloat16()) {
    EXPECT_TRUE(bfloat16_product(a.slice(0, 5, 30), b).equal(one.slice(0, 5, 30)));
  }
}

/// Large enough for products to be rounded.
at::Tensor large(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  return normal({rows, columns}, at::kFloat, seed);
}

TEST(Products, GradientsMultiplyAsTheForwardPassDidWhereverTheyAreAskedFor) {
  const at::Tensor x = large(128, 256, 1).requires_grad_(true), weight = large(512, 256, 2).requires_grad_(true),
                   dy = large(128, 512, 3);
  at::Tensor y;
  {
    const ProductsScope scope(Products::kBFloat16);
    const at::AutoGradMode with_gradients(true);
    y = dense_linear(x, weight);
  }
  EXPECT_EQ(current_products(), Products::kFloat32);
  y.backward(dy);
  EXPECT_LT(test::largest_difference(y.to(at::kDouble), at::mm(as_bfloat16(x), as_bfloat16(weight).t())), 1e-4);
  EXPECT_LT(test::largest_difference(x.grad().to(at::kDouble), at::mm(as_bfloat16(dy), as_bfloat16(weight))), 1e-4);
  EXPECT_LT(test::largest_difference(weight.grad().to(at::kDouble), at::mm(as_bfloat16(dy).t(), as_bfloat16(x))), 1e-4);
}

TEST(Products, AreRoundedOnlyWhereAScopeSaysSo) {
  const at::Tensor x = large(128, 256, 1), weight = large(512, 256, 2);
  const at::Tensor exact = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
  EXPECT_LT(test::largest_difference(dense_linear(x, weight).to(at::kDouble), exact), 1e-4);
  {
    const ProductsScope outer(Products::kBFloat16);
    EXPECT_GT(test::largest_difference(dense_linear(x, weight).to(at::kDouble), exact), 1e-2);
    const ProductsScope inner(Products::kFloat32);
    EXPECT_LT(test::largest_difference(dense_linear(x, weight).to(at::kDouble), exact), 1e-4);
  }
  const ProductsScope scope(Products::kBFloat16);
  const at::Tensor wide = dense_linear(x.to(at::kDouble), weight.to(at::kDouble));
  EXPECT_LT(test::largest_difference(wide, exact), 1e-10) << "float64 stays what it is";
}

/// A model whose feed-forward products are large enough.
Decoder wide_decoder() {
  UniformModel model = test::tiny_model("gqa");
  model.model.hidden = 256;
  model.feed_forward.width = 1024;
  return test::tiny_decoder(model.spec(), at::kFloat);
}

TEST(Products, OfAModelHoldForAllItsLayersAndItsLogits) {
  Decoder decoder = wide_decoder();
  const at::Tensor ids = test::random_ids(decoder.spec(), 2, 64);
  const at::NoGradGuard no_gradients;
  const at::Tensor exact = decoder.forward(ids);
  decoder.products = Products::kBFloat16;
  const at::Tensor rounded = decoder.forward(ids);
  const double difference = test::largest_difference(rounded, exact), size = exact.abs().max().item<double>();
  EXPECT_GT(difference, 1e-6 * size);
  EXPECT_LT(difference, 0.05 * size);
  EXPECT_TRUE(decoder.clone().forward(ids).equal(rounded)) << "copies multiply alike";
  EXPECT_EQ(current_products(), Products::kFloat32);
}

TEST(Products, RecomputedActivationsGiveTheSameGradients) {
  std::vector<at::Tensor> gradients;
  for (const bool checkpointed : {false, true}) {
    Decoder decoder = wide_decoder();
    decoder.products = Products::kBFloat16;
    decoder.checkpoint_activations = checkpointed;
    std::vector<at::Tensor> weights;
    decoder.visit_parameters([&](const std::string&, at::Tensor& tensor) {
      tensor.requires_grad_(true);
      weights.push_back(tensor);
    });
    const at::Tensor ids = test::random_ids(decoder.spec(), 2, 64);
    Batch batch;
    batch.ids = ids;
    batch.targets = ids.roll(-1, 1);
    accumulate_gradients(decoder, batch, 1.0, {}, nullptr, 1 << 22);
    std::vector<at::Tensor> flat;
    for (const at::Tensor& weight : weights) flat.push_back(weight.grad().flatten());
    gradients.push_back(at::cat(flat));
  }
  EXPECT_TRUE(gradients[0].equal(gradients[1]));
  EXPECT_GT(gradients[0].abs().max().item<double>(), 0);
}

TEST(Products, HaveNames) {
  EXPECT_EQ(parse_products("float32", "products"), Products::kFloat32);
  EXPECT_EQ(parse_products("bfloat16", "products"), Products::kBFloat16);
  EXPECT_EQ(parse_products("auto", "products") == Products::kBFloat16, has_fast_bfloat16());
  EXPECT_EQ(settled_products("auto", "products"), has_fast_bfloat16() ? "bfloat16" : "float32");
  EXPECT_EQ(test::message_of<ConfigError>([] { parse_products("bf16", "products"); }),
            "products: no 'bf16'; known: float32, bfloat16, auto");
}

}  // namespace
}  // namespace mla
