#include "tests/support/random_layers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>

#include "core/base/registry.h"
#include "core/kv_cache/stream.h"
#include "tests/support/random_tensors.h"

namespace mla::test {

RandomLayer random_layer(const Json& config, at::ScalarType dtype, RandomStream& stream) {
  RandomLayer layer;
  layer.frame.hidden = 16;
  layer.frame.rope_dim = 8;
  layer.frame.max_positions = 64;
  const auto spec = Registry<AttentionSpec>::instance().make(config, "layer");
  spec->check(layer.frame, "layer");
  std::map<std::string, std::pair<at::Tensor, at::Tensor>> maps;
  for (const Parameter& parameter : spec->parameters(layer.frame)) {
    const at::Tensor tensor = normal(parameter.shape, dtype, stream.below(1u << 30)) * 0.4;
    const std::string map = parameter.name.substr(0, parameter.name.rfind('.'));
    (parameter.role == ParameterRole::kBias ? maps[map].second : maps[map].first) = tensor;
  }
  LayerWeights weights;
  for (const auto& [name, map] : maps) weights.add(name, Linear(map.first, map.second));
  layer.attention = spec->build(layer.frame, std::move(weights));
  return layer;
}

at::Tensor RandomLayer::uncached(const at::Tensor& hidden) const {
  ForwardContext context;
  context.rotary = frame.rotary().table(0, hidden.size(1), hidden.size(1), hidden.options());
  return attention->forward(hidden, context);
}

at::Tensor RandomLayer::through_cache(const at::Tensor& hidden, const std::vector<std::int64_t>& chunks,
                                      DecodePath path) const {
  LayerCache cache(attention->spec()->streams(), hidden.size(0), hidden.options());
  const Rotary rotary = frame.rotary();
  std::vector<at::Tensor> out;
  std::int64_t begin = 0;
  for (const std::int64_t count : chunks) {
    ForwardContext context;
    context.rotary = rotary.table(begin, count, begin + count, hidden.options());
    context.history = rotary.table(0, begin + count, begin + count, hidden.options());
    context.before.assign(static_cast<std::size_t>(hidden.size(0)), begin);
    context.path = path;
    out.push_back(attention->forward_cached(hidden.narrow(1, begin, count), context, cache));
    begin += count;
  }
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
  return at::cat(out, 1);
}

}  // namespace mla::test
