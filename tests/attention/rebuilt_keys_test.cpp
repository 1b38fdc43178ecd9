// Layers that cache something else than the keys that they multiply, over random shapes: what the kernel makes of it a
// tile at a time against the whole sequence without a cache.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/support/random_layers.h"
#include "tests/support/random_tensors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kRebuiltDouble = 1e-10, kRebuiltFloat = 1e-4;
constexpr std::int64_t kRebuiltLength = 13;

std::int64_t number_below(RandomStream& stream, std::uint64_t count) {
  return static_cast<std::int64_t>(stream.below(count));
}

/// Latents of groups of KV heads, from which keys are rebuilt.
Json random_split_latent(RandomStream& stream) {
  const std::int64_t key_heads = 1 + number_below(stream, 2), value_heads = 1 + number_below(stream, 2);
  const std::int64_t kv_heads = 2 * (1 + number_below(stream, 2));
  return {{"name", "split_latent"},
          {"kv_heads", kv_heads},
          {"heads", kv_heads * (1 + number_below(stream, 3))},
          {"head_dim", 8},
          {"window", number_below(stream, 3) == 0 ? 1 + number_below(stream, 9) : 0},
          {"query_bias", stream.below(2) > 0},
          {"key_bias", stream.below(2) > 0},
          {"value_bias", stream.below(2) > 0},
          {"keys", "rebuilt"},
          {"key_heads", key_heads},
          {"key_width", 1 + number_below(stream, 11)},
          {"value_heads", value_heads},
          {"value_width", 1 + number_below(stream, 9)},
          {"value_up", true}};
}

/// Values that are made of the one key, which is rotated when it is read.
Json random_key_reuse(RandomStream& stream) {
  const std::int64_t pairs = 1 + number_below(stream, 9);
  Json own = Json::array();
  for (std::int64_t i = 0; i < pairs; ++i) own.push_back(number_below(stream, 4));
  const bool stated = pairs != 4 || stream.below(2) > 0;
  return {{"name", "mfa"},
          {"kv_heads", 1},
          {"heads", 1 + number_below(stream, 5)},
          {"head_dim", 8},
          {"window", number_below(stream, 3) == 0 ? 1 + number_below(stream, 9) : 0},
          {"key_bias", stream.below(2) > 0},
          {"key_width", 2 * pairs},
          {"pairs", stated ? own : Json::array()},
          {"key_reuse", true}};
}

TEST(RebuiltKeys, CachedIsUncachedForAnyShape) {
  const at::NoGradGuard no_grad;
  RandomStream stream(4, "rebuilt keys");
  for (int i = 0; i < 160; ++i) {
    const at::ScalarType dtype = i % 2 ? at::kFloat : at::kDouble;
    const Json config = i % 4 < 2 ? random_split_latent(stream) : random_key_reuse(stream);
    const test::RandomLayer layer = test::random_layer(config, dtype, stream);
    const at::Tensor hidden = test::normal({2, kRebuiltLength, layer.frame.hidden}, dtype, stream.below(1u << 30));
    const at::Tensor expected = layer.uncached(hidden);
    const double tolerance = dtype == at::kDouble ? kRebuiltDouble : kRebuiltFloat;
    for (const bool ready : {false, true}) {
      if (ready) layer.attention->prepare_decode();
      for (const std::int64_t prompt : {1, 7}) {
        std::vector<std::int64_t> chunks(kRebuiltLength - prompt + 1, 1);
        chunks.front() = prompt;
        EXPECT_LT(test::largest_difference(layer.through_cache(hidden, chunks), expected), tolerance)
            << config << " prepared: " << ready << " prompt " << prompt;
      }
    }
  }
}

}  // namespace
}  // namespace mla
