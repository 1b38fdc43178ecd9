#include "core/model/fused_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"

namespace mla {
namespace {

std::string in_block(std::int64_t layer, const std::string& map) {
  return cat("model.layers.", layer, ".", map, ".weight");
}

/// The shapes of a block's matrices by whole names.
std::map<std::string, std::vector<std::int64_t>> shapes_of(const ModelSpec& spec, std::int64_t layer) {
  std::map<std::string, std::vector<std::int64_t>> shapes;
  for (const ModelParameter& parameter : layer_parameters(spec, layer)) shapes[parameter.name] = parameter.shape;
  return shapes;
}

}  // namespace

void split_fused(const ModelSpec& spec, const std::vector<FusedMap>& maps, WeightMap& weights,
                 const std::string& where) {
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    auto shapes = shapes_of(spec, layer);
    for (const FusedMap& map : maps) {
      const std::string name = in_block(layer, map.name);
      const auto found = weights.find(name);
      if (found == weights.end()) continue;
      const at::Tensor fused = found->second;
      std::int64_t rows = 0;
      for (const std::string& part : map.parts) {
        const auto shape = shapes.find(in_block(layer, part));
        // A block of another kind has no such part: what the file holds then has no place, which is said later.
        if (shape == shapes.end()) return;
        rows += shape->second.at(0);
      }
      if (fused.dim() != 2 || fused.size(0) != rows)
        throw DataError(cat(where, ": ", name, ": expected ", rows, " rows, those of ", join(map.parts),
                            ", found shape ", fused.sizes()));
      weights.erase(found);
      std::int64_t begin = 0;
      for (const std::string& part : map.parts) {
        const std::int64_t count = shapes.at(in_block(layer, part)).at(0);
        weights[in_block(layer, part)] = fused.narrow(0, begin, count);
        begin += count;
      }
    }
  }
}

void join_fused(const ModelSpec& spec, const std::vector<FusedMap>& maps,
                std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < tensors.size(); ++i) places[tensors[i].first] = i;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    for (const FusedMap& map : maps) {
      std::vector<at::Tensor> parts;
      for (const std::string& part : map.parts) parts.push_back(tensors.at(places.at(in_block(layer, part))).second);
      tensors[places.at(in_block(layer, map.parts.front()))] = {in_block(layer, map.name), at::cat(parts)};
      for (std::size_t k = 1; k < map.parts.size(); ++k)
        tensors[places.at(in_block(layer, map.parts[k]))].first.clear();
    }
  }
  std::erase_if(tensors, [](const auto& entry) { return entry.first.empty(); });
}

}  // namespace mla
