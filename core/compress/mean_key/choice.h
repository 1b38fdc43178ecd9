// Sizes of mean-key layers: what may become of each, and how layers share one budget.
#pragma once

#include <cstdint>
#include <vector>

#include "core/compress/mean_key/layer.h"

namespace mla {

/// A size for a layer, and what it then loses.
struct MeanKeyChoice {
  std::int64_t cached = 0;  ///< values, two of each slot among them
  std::int64_t slots = 0;
  LayerSample::Error error;
};

/// Numbers of slots that are tried, up to `most`: the finer, the fewer there are.
std::vector<std::int64_t> slot_grid(std::int64_t most);

/// Cached values that are tried for a layer that would have `stated` of them, were all layers alike: `stated` and
/// `widths`, or, where none are named, shares of `stated`. Descending, none above `most`.
std::vector<std::int64_t> shared_budgets(std::int64_t stated, const std::vector<std::int64_t>& widths,
                                         std::int64_t most);

/// One choice of each layer: all budgets together are `total`, and errors, each over the size of the stream before its
/// layer, have the least sum.
std::vector<MeanKeyChoice> share_budget(const std::vector<std::vector<MeanKeyChoice>>& layers, std::int64_t total);

/// One number of slots for all layers: that with the least sum of errors. Empty where no number is among the choices of
/// every layer.
std::vector<MeanKeyChoice> choose_alike(const std::vector<std::vector<MeanKeyChoice>>& layers);

}  // namespace mla
