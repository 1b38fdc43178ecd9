#include "core/model/fused_weights.h"

#include <ATen/ATen.h>

#include <map>
#include <utility>

#include "core/base/error.h"
#include "core/base/suggest.h"

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

/// Matrices of one width, one below the other, made when they are written.
TensorSource joined(const std::string& name, const std::vector<TensorSource>& parts) {
  TensorSource all = parts.front();
  all.name = name;
  for (std::size_t i = 1; i < parts.size(); ++i) all.sizes[0] += parts[i].sizes[0];
  all.values = [parts] {
    std::vector<at::Tensor> values;
    for (const TensorSource& part : parts) values.push_back(part.values());
    return at::cat(values);
  };
  return all;
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

void join_fused(const ModelSpec& spec, const std::vector<FusedMap>& maps, std::vector<TensorSource>& tensors) {
  std::map<std::string, std::size_t> places;
  for (std::size_t i = 0; i < tensors.size(); ++i) places[tensors[i].name] = i;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    for (const FusedMap& map : maps) {
      std::vector<TensorSource> parts;
      for (const std::string& part : map.parts) parts.push_back(tensors.at(places.at(in_block(layer, part))));
      TensorSource fused = joined(in_block(layer, map.name), parts);
      for (const std::string& part : map.parts) tensors[places.at(in_block(layer, part))].name.clear();
      tensors[places.at(in_block(layer, map.parts.front()))] = std::move(fused);
    }
  }
  std::erase_if(tensors, [](const TensorSource& source) { return source.name.empty(); });
}

}  // namespace mla
