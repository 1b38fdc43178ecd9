// Palu's rule for sharing a budget of ranks between matrices.
#pragma once

#include <cstdint>
#include <vector>

namespace mla {

/// Ranks of at least one and at most `most` each that add up to `budget`, as near as they can be to the shares that
/// `weights` have of their sum: what stands in for a rank beyond `most` goes to the others by their weights, and what
/// rounding down leaves to the largest fractions, the first of equal ones first. Weights are not negative; where all of
/// them are zero they count alike. `budget` lies between the number of matrices and the sum of `most`.
std::vector<std::int64_t> proportional_ranks(const std::vector<double>& weights, const std::vector<std::int64_t>& most,
                                             std::int64_t budget);

}  // namespace mla
