#include "experiments/cell/statistics_file.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/model/safetensors.h"

namespace mla {
namespace {

constexpr const char* kTokens = "tokens";
constexpr const char* kRows = "rows_hash";

constexpr const char* kAll = "all";

/// "3.key.pair_norms", or "all.…" for what spans layers, as a layer and a requirement.
std::pair<Requirement, std::int64_t> parse_name(const std::string& name, const std::string& file) {
  const std::size_t dot = name.find('.');
  if (dot != std::string::npos) {
    std::int64_t layer = kAllLayers;
    const auto [end, error] = std::from_chars(name.data(), name.data() + dot, layer);
    const bool is_layer = error == std::errc() && end == name.data() + dot && layer >= 0;
    const std::optional<Requirement> requirement = Requirement::parse(name.substr(dot + 1));
    if (requirement && (is_layer || name.substr(0, dot) == kAll)) return {*requirement, layer};
  }
  throw DataError(cat(file, ": no calibration statistics: tensor ", brief_text(name)));
}

}  // namespace

void write_statistics(const std::filesystem::path& path, const Statistics& statistics) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [key, value] : statistics.values)
    tensors.emplace_back(cat(key.second == kAllLayers ? kAll : cat(key.second), ".", key.first.name()),
                         value.contiguous());
  tensors.emplace_back(kTokens, at::tensor({statistics.tokens}, at::kLong));
  const std::vector<std::int64_t> letters(statistics.rows_hash.begin(), statistics.rows_hash.end());
  tensors.emplace_back(kRows, at::tensor(letters, at::kLong));
  write_safetensors(path, tensors);
}

Statistics read_statistics(const std::filesystem::path& path) {
  Statistics statistics;
  for (const auto& [name, stored] : read_safetensors(path)) {
    const at::Tensor tensor = stored.contiguous().clone();
    const bool whole = name == kTokens || name == kRows;
    if (tensor.scalar_type() != (whole ? at::kLong : at::kDouble) || tensor.numel() == 0)
      throw DataError(cat(path.string(), ": no calibration statistics: tensor ", brief_text(name)));
    if (name == kTokens) {
      statistics.tokens = tensor.flatten()[0].item<std::int64_t>();
    } else if (name == kRows) {
      const std::int64_t* letters = tensor.const_data_ptr<std::int64_t>();
      std::transform(letters, letters + tensor.numel(), std::back_inserter(statistics.rows_hash),
                     [](std::int64_t letter) { return static_cast<char>(letter); });
    } else {
      statistics.values[parse_name(name, path.string())] = tensor;
    }
  }
  if (statistics.tokens < 1 || statistics.rows_hash.empty())
    throw DataError(cat(path.string(), ": no calibration statistics: tensor ", kTokens, " or ", kRows));
  return statistics;
}

}  // namespace mla
