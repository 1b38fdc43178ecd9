#include "core/linalg/moments.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace mla {
namespace {

TEST(StreamingMean, EqualsTheMeanOfAllTokensWhateverTheBatches) {
  const at::Tensor tokens = at::arange(7 * 2 * 3, at::kDouble).reshape({7, 2, 3}).square();
  StreamingMean mean;
  mean.add(tokens.narrow(0, 0, 1));
  mean.add(tokens.narrow(0, 1, 4));
  mean.add(tokens.narrow(0, 5, 2));
  EXPECT_EQ(mean.count(), 7);
  EXPECT_TRUE(at::allclose(mean.mean(), tokens.mean(0), 1e-14, 0));
}

TEST(StreamingMean, AccumulatesSingleTokensInDoublePrecision) {
  // In float32 the sum would stop growing at 2^24.
  StreamingMean mean;
  mean.add(at::full({1, 1}, 16777216.0F));
  mean.add(at::ones({16, 1}, at::kFloat));
  EXPECT_EQ(mean.mean().scalar_type(), at::kDouble);
  EXPECT_DOUBLE_EQ(mean.mean().item<double>(), 16777232.0 / 17);
}

TEST(StreamingMean, RefusesOtherShapesAndNoTokens) {
  StreamingMean mean;
  EXPECT_THROW(mean.mean(), std::logic_error);
  mean.add(at::ones({2, 3}));
  EXPECT_THROW(mean.add(at::ones({2, 4})), std::logic_error);
}

}  // namespace
}  // namespace mla
