// Layers that cache something else than the keys that they multiply, over random shapes: what the kernel makes of it a
// tile at a time against the whole sequence without a cache.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "core/attention/attention.h"
#include "core/base/random.h"
#include "core/base/registry.h"
#include "core/kv_cache/stream.h"
#include "tests/support/random_tensors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kRebuiltDouble = 1e-10, kRebuiltFloat = 1e-4;
constexpr std::int64_t kRebuiltLength = 13;

struct RebuildingLayer {
  ModelFrame frame;
  std::unique_ptr<Attention> attention;
};

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

RebuildingLayer random_layer(const Json& config, at::ScalarType dtype, RandomStream& stream) {
  RebuildingLayer layer;
  layer.frame.hidden = 16;
  layer.frame.rope_dim = 8;
  layer.frame.max_positions = 64;
  const auto spec = Registry<AttentionSpec>::instance().make(config, "layer");
  spec->check(layer.frame, "layer");
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> maps;
  for (const Parameter& parameter : spec->parameters(layer.frame)) {
    const at::Tensor tensor = test::normal(parameter.shape, dtype, stream.below(1u << 30)) * 0.4;
    const std::string map = parameter.name.substr(0, parameter.name.rfind('.'));
    (parameter.name.ends_with(".bias") ? maps[map].second : maps[map].first) = tensor;
  }
  LayerWeights weights;
  for (const auto& [name, map] : maps) weights.add(name, Linear(map.first, map.second));
  layer.attention = spec->build(layer.frame, std::move(weights));
  return layer;
}

at::Tensor token_by_token(const RebuildingLayer& layer, const at::Tensor& hidden, std::int64_t prompt) {
  LayerCache cache(layer.attention->spec()->streams(), hidden.size(0), hidden.options());
  const Rotary rotary = layer.frame.rotary();
  std::vector<at::Tensor> out;
  for (std::int64_t begin = 0; begin < hidden.size(1);) {
    const std::int64_t count = begin == 0 ? prompt : 1;
    ForwardContext context;
    context.rotary = rotary.table(begin, count, begin + count, hidden.options());
    context.history = rotary.table(0, begin + count, begin + count, hidden.options());
    context.before.assign(static_cast<std::size_t>(hidden.size(0)), begin);
    out.push_back(layer.attention->forward_cached(hidden.narrow(1, begin, count), context, cache));
    begin += count;
  }
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
  return at::cat(out, 1);
}

TEST(RebuiltKeys, CachedIsUncachedForAnyShape) {
  const at::NoGradGuard no_grad;
  RandomStream stream(4, "rebuilt keys");
  for (int i = 0; i < 160; ++i) {
    const at::ScalarType dtype = i % 2 ? at::kFloat : at::kDouble;
    const Json config = i % 4 < 2 ? random_split_latent(stream) : random_key_reuse(stream);
    const RebuildingLayer layer = random_layer(config, dtype, stream);
    const at::Tensor hidden = test::normal({2, kRebuiltLength, layer.frame.hidden}, dtype, stream.below(1u << 30));
    ForwardContext context;
    context.rotary = layer.frame.rotary().table(0, kRebuiltLength, kRebuiltLength, hidden.options());
    const at::Tensor expected = layer.attention->forward(hidden, context);
    const double tolerance = dtype == at::kDouble ? kRebuiltDouble : kRebuiltFloat;
    for (const bool ready : {false, true}) {
      if (ready) layer.attention->prepare_decode();
      for (const std::int64_t prompt : {1, 7})
        EXPECT_LT(test::largest_difference(token_by_token(layer, hidden, prompt), expected), tolerance)
            << config << " prepared: " << ready << " prompt " << prompt;
    }
  }
}

}  // namespace
}  // namespace mla
