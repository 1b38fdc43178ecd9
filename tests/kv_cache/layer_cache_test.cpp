#include "core/kv_cache/layer_cache.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace mla {
namespace {

TEST(LayerCache, ReturnsEverythingAppendedInOrder) {
  LayerCache cache({{"rope_key", 2, 4}, {"latent", 1, 6}}, 3, at::kFloat);
  std::vector<at::Tensor> keys;
  for (std::int64_t count : {5, 1, 1, 200, 3}) {
    keys.push_back(at::randn({3, 2, count, 4}));
    const at::Tensor all = cache.append(0, keys.back());
    cache.append(1, at::randn({3, 1, count, 6}));
    EXPECT_TRUE(at::equal(all, at::cat(keys, 2)));
  }
  EXPECT_EQ(cache.length(), 210);
}

TEST(LayerCache, CountsTheBytesOfItsTokens) {
  const std::vector<StreamShape> streams = {{"rope_key", 2, 4}, {"latent", 1, 6}};
  LayerCache cache(streams, 3, at::kBFloat16);
  cache.append(0, at::zeros({3, 2, 10, 4}));
  cache.append(1, at::zeros({3, 1, 10, 6}));
  EXPECT_EQ(cache.bytes(), 3 * 10 * elements_per_token(streams) * 2);
  EXPECT_GE(cache.allocated_bytes(), cache.bytes());
}

TEST(LayerCache, ResetForgetsAndReuses) {
  LayerCache cache({{"key", 1, 2}}, 1, at::kFloat);
  cache.append(0, at::ones({1, 1, 70, 2}));
  const std::int64_t allocated = cache.allocated_bytes();
  cache.reset();
  EXPECT_EQ(cache.length(), 0);
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.append(0, at::zeros({1, 1, 3, 2})).size(2), 3);
  EXPECT_EQ(cache.allocated_bytes(), allocated);
}

TEST(LayerCache, RefusesTokensOfAnotherShape) {
  LayerCache cache({{"key", 2, 4}}, 1, at::kFloat);
  EXPECT_THROW(cache.append(0, at::zeros({1, 2, 1, 3})), std::logic_error);
}

}  // namespace
}  // namespace mla
