#include "core/partial_rope/pairs.h"

#include <numeric>

#include "core/base/error.h"

namespace mla {

void check_pairs(const PerLayer& pairs, const HeadGeometry& geometry, const std::string& path) {
  const auto layers = static_cast<std::size_t>(geometry.layers);
  const std::int64_t available = geometry.head_dim / 2;
  pairs.check_length(path, layers);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (pairs.at(layer) < 0 || pairs.at(layer) > available) {
      throw ConfigError(cat(pairs.describe(path, layer), ": head_dim ", geometry.head_dim, " has ", available,
                            " pairs; 0 (no rotary embedding) to ", available, " can be kept"));
    }
  }
}

KeptPairs same_for_all_heads(const std::vector<std::int64_t>& pairs, const HeadGeometry& geometry) {
  return KeptPairs(static_cast<std::size_t>(geometry.kv_heads), pairs);
}

std::vector<std::int64_t> consecutive_pairs(std::int64_t begin, std::int64_t count) {
  std::vector<std::int64_t> pairs(static_cast<std::size_t>(count));
  std::iota(pairs.begin(), pairs.end(), begin);
  return pairs;
}

}  // namespace mla
