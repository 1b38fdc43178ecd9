// Mean-key latent attention over random shapes: cached = uncached, absorbed = expanded, by the kernel and without it.
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

constexpr double kMklaDouble = 1e-10, kMklaFloat = 1e-4;
constexpr std::int64_t kMklaLength = 13;

struct RandomMkla {
  ModelFrame frame;
  std::unique_ptr<Attention> attention;
};

RandomMkla random_mkla(RandomStream& stream, at::ScalarType dtype) {
  const auto below = [&](std::uint64_t count) { return static_cast<std::int64_t>(stream.below(count)); };
  RandomMkla layer;
  layer.frame.hidden = 16;
  layer.frame.rope_dim = 8;
  layer.frame.max_positions = 64;
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
  const auto spec = Registry<AttentionSpec>::instance().make(config, "layer");
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> maps;
  for (const Parameter& parameter : spec->parameters(layer.frame)) {
    const at::Tensor tensor = test::normal(parameter.shape, dtype, stream.below(1u << 30)) * 0.4;
    const std::string map = parameter.name.substr(0, parameter.name.rfind('.'));
    (parameter.role == ParameterRole::kBias ? maps[map].second : maps[map].first) = tensor;
  }
  LayerWeights weights;
  for (const auto& [name, map] : maps) weights.add(name, Linear(map.first, map.second));
  layer.attention = spec->build(layer.frame, std::move(weights));
  return layer;
}

at::Tensor mkla_through_cache(const RandomMkla& layer, const at::Tensor& hidden,
                              const std::vector<std::int64_t>& chunks, DecodePath path) {
  LayerCache cache(layer.attention->spec()->streams(), hidden.size(0), hidden.options());
  const Rotary rotary = layer.frame.rotary();
  std::vector<at::Tensor> out;
  std::int64_t begin = 0;
  for (const std::int64_t count : chunks) {
    ForwardContext context;
    context.rotary = rotary.table(begin, count, begin + count, hidden.options());
    context.history = rotary.table(0, begin + count, begin + count, hidden.options());
    context.before.assign(static_cast<std::size_t>(hidden.size(0)), begin);
    context.path = path;
    out.push_back(layer.attention->forward_cached(hidden.narrow(1, begin, count), context, cache));
    begin += count;
  }
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
  return at::cat(out, 1);
}

TEST(MklaPaths, CachedIsUncachedForAnyShape) {
  const at::NoGradGuard no_grad;
  RandomStream stream(3, "mkla shapes");
  for (int i = 0; i < 120; ++i) {
    const at::ScalarType dtype = i % 2 ? at::kFloat : at::kDouble;
    const RandomMkla layer = random_mkla(stream, dtype);
    const at::Tensor hidden = test::normal({2, kMklaLength, layer.frame.hidden}, dtype, stream.below(1u << 30));
    ForwardContext context;
    context.rotary = layer.frame.rotary().table(0, kMklaLength, kMklaLength, hidden.options());
    const at::Tensor expected = layer.attention->forward(hidden, context);
    for (const DecodePath path : {DecodePath::kAbsorbed, DecodePath::kExpanded, DecodePath::kAuto}) {
      for (const auto& chunks :
           {std::vector<std::int64_t>{kMklaLength}, {5, 1, 1, 4, 2}, std::vector<std::int64_t>(kMklaLength, 1)}) {
        EXPECT_LT(test::largest_difference(mkla_through_cache(layer, hidden, chunks, path), expected),
                  dtype == at::kDouble ? kMklaDouble : kMklaFloat)
            << layer.attention->spec()->fields() << " path " << static_cast<int>(path) << " chunks " << chunks.size();
      }
    }
  }
}

}  // namespace
}  // namespace mla
