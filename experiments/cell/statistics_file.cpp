#include "experiments/cell/statistics_file.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/model/safetensors.h"

namespace mla {
namespace {

using Norms = std::vector<std::vector<double>>;

at::Tensor to_tensor(const CalibrationStatistics& statistics, Norms PairNorms::*part) {
  std::vector<at::Tensor> layers;
  for (const PairNorms& layer : statistics.layers) {
    std::vector<at::Tensor> heads;
    for (const auto& head : layer.*part) heads.push_back(at::tensor(head, at::kDouble));
    layers.push_back(at::stack(heads));
  }
  return at::stack(layers);
}

Norms to_norms(const at::Tensor& layer) {
  Norms norms;
  const double* values = layer.const_data_ptr<double>();
  for (std::int64_t head = 0; head < layer.size(0); ++head, values += layer.size(1)) {
    norms.emplace_back(values, values + layer.size(1));
  }
  return norms;
}

}  // namespace

void write_statistics(const std::filesystem::path& path, const CalibrationStatistics& statistics) {
  write_safetensors(path, {{"query", to_tensor(statistics, &PairNorms::query)},
                           {"key", to_tensor(statistics, &PairNorms::key)},
                           {"tokens", at::tensor({statistics.tokens}, at::kLong)}});
}

CalibrationStatistics read_statistics(const std::filesystem::path& path) {
  const WeightMap tensors = read_safetensors(path);
  const auto get = [&](const char* name, std::int64_t dimensions, at::ScalarType dtype) {
    const auto found = tensors.find(name);
    const bool fits =
        found != tensors.end() && found->second.dim() == dimensions && found->second.scalar_type() == dtype;
    if (!fits) throw DataError(cat(path.string(), ": no calibration statistics: tensor ", name));
    return found->second.contiguous();
  };
  const at::Tensor query = get("query", 3, at::kDouble), key = get("key", 3, at::kDouble);
  CalibrationStatistics statistics;
  statistics.tokens = get("tokens", 1, at::kLong)[0].item<std::int64_t>();
  if (query.size(0) != key.size(0)) throw DataError(cat(path.string(), ": queries and keys of different layers"));
  for (std::int64_t layer = 0; layer < query.size(0); ++layer) {
    statistics.layers.push_back({to_norms(query[layer]), to_norms(key[layer])});
  }
  return statistics;
}

}  // namespace mla
