// Non-uniform codebooks in one dimension.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mla {

/// The `count` centres, ascending, that minimise sum of weight (value - nearest centre)^2. Exact (dynamic programme
/// over the sorted values, O(count n log n)) up to 65,536 distinct values; more are first merged into that many
/// neighbours. Fewer distinct values than centres: the last is repeated. Weights that are all 0 count as 1.
std::vector<double> weighted_kmeans(std::span<const float> values, std::span<const float> weights, std::int64_t count);

/// sum of weight (value - nearest centre)^2.
double weighted_inertia(std::span<const float> values, std::span<const float> weights, std::span<const double> centres);

/// NormalFloat signposts of `bits` bits (QLoRA, arXiv 2305.14314): quantiles of the normal distribution, ascending from
/// -1 to 1, with 0 among them.
std::vector<double> normal_float_codebook(int bits);

}  // namespace mla
