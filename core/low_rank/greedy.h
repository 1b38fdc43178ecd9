// What allocators that hand out one element after the other share.
#pragma once

#include <cstdint>
#include <vector>

#include "core/low_rank/allocator.h"

namespace mla {

/// Widths whose sum is that of the stated ones, found by giving every next element to the layer whose squared relative
/// error, times its weight, falls most by it: the smallest weighted sum that the budget buys where errors fall by
/// falling steps, as singular values do. Of equal layers the first one is served.
std::vector<std::int64_t> greedy_widths(const std::vector<LayerShare>& layers, const std::vector<double>& weights);

}  // namespace mla
