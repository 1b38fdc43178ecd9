// Mean-key latent attention over random shapes: cached = uncached, absorbed = expanded, by the kernel and without it.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/support/random_layers.h"
#include "tests/support/random_tensors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kMklaDouble = 1e-10, kMklaFloat = 1e-4;
constexpr std::int64_t kMklaLength = 13;

test::RandomLayer random_mkla(RandomStream& stream, at::ScalarType dtype) {
  const auto below = [&](std::uint64_t count) { return static_cast<std::int64_t>(stream.below(count)); };
  const std::int64_t kv_heads = 1 + below(3);
  Json slots = Json::array();
  for (std::int64_t i = below(6); i > 0; --i) slots.push_back(below(4));
  const Json config = {{"name", "mkla"},
                       {"kv_heads", kv_heads},
                       {"heads", kv_heads * (1 + below(4))},
                       {"head_dim", 8},
                       {"window", below(3) == 0 ? 1 + below(9) : 0},
                       {"query_bias", below(2) > 0},
                       {"output_bias", below(2) > 0},
                       {"latent_width", 1 + below(20)},
                       {"slots", slots},
                       {"layout", below(2) > 0 ? "dual" : "std"},
                       {"position", below(2) > 0},
                       {"down_bias", below(2) > 0}};
  return test::random_layer(config, dtype, stream);
}

TEST(MklaPaths, CachedIsUncachedForAnyShape) {
  const at::NoGradGuard no_grad;
  RandomStream stream(3, "mkla shapes");
  for (int i = 0; i < 120; ++i) {
    const at::ScalarType dtype = i % 2 ? at::kFloat : at::kDouble;
    const test::RandomLayer layer = random_mkla(stream, dtype);
    const at::Tensor hidden = test::normal({2, kMklaLength, layer.frame.hidden}, dtype, stream.below(1u << 30));
    const at::Tensor expected = layer.uncached(hidden);
    for (const DecodePath path : {DecodePath::kAbsorbed, DecodePath::kExpanded, DecodePath::kAuto}) {
      for (const auto& chunks :
           {std::vector<std::int64_t>{kMklaLength}, {5, 1, 1, 4, 2}, std::vector<std::int64_t>(kMklaLength, 1)}) {
        EXPECT_LT(test::largest_difference(layer.through_cache(hidden, chunks, path), expected),
                  dtype == at::kDouble ? kMklaDouble : kMklaFloat)
            << layer.attention->spec()->fields() << " path " << static_cast<int>(path) << " chunks " << chunks.size();
      }
    }
  }
}

}  // namespace
}  // namespace mla
