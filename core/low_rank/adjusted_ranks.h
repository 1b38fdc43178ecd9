// CARE's rule for sharing a budget of ranks between layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace mla {

/// Ranks that one layer may have.
struct RankRange {
  std::int64_t least = 1, most = 1;
};

/// "Adjusted rank" (CARE, arXiv 2603.17946): from the least ranks on, the next one goes to the layer with the largest
///   (share of the error left that it removes) * sqrt(layers from it on / their mean) / sqrt(rank / least rank);
/// `left(layer, rank)`: the squared error that a rank leaves, relative to what there is. The sum is `budget`, which
/// must lie between those of the ranges.
std::vector<std::int64_t> adjusted_ranks(const std::function<double(std::size_t layer, std::int64_t rank)>& left,
                                         const std::vector<RankRange>& ranges, std::int64_t budget);

}  // namespace mla
