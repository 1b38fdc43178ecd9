// What divergence() and layer_divergence() share: where rows compared go, and how many are compared at a time.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "core/evaluate/divergence.h"
#include "core/evaluate/windows.h"
#include "core/ops/softmax_divergence.h"

namespace mla {

/// How many rows of logits of one model exist at once. Those of two models then stay in a core's cache for small
/// vocabularies; fewer rows would make the product with the output matrix slow.
inline std::int64_t logit_rows(std::int64_t vocabulary) {
  return std::max(std::int64_t{32}, (std::int64_t{1} << 20) / vocabulary);
}

/// Room for the scored tokens of a plan.
inline TokenDivergence room_for(const WindowPlan& plan, std::int64_t context) {
  const std::vector<double> empty(static_cast<std::size_t>(plan.scored));
  return {empty, empty, empty, empty, scored_positions(plan), text_groups(plan.scored_per_sequence, context)};
}

/// Puts the i-th value at place[i]; `places` int64.
inline void put(const at::Tensor& values, const at::Tensor& places, std::vector<double>& to) {
  const at::Tensor from = values.to(at::kCPU, at::kDouble).contiguous();
  const double* value = from.const_data_ptr<double>();
  const auto* place = places.const_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < places.size(0); ++i) to[static_cast<std::size_t>(place[i])] = value[i];
}

inline void put(const SoftmaxDivergence& rows, const at::Tensor& places, TokenDivergence& to) {
  put(rows.kl, places, to.kl);
  put(rows.reference_nll, places, to.source_nll);
  put(rows.nll, places, to.nll);
  put(rows.agrees, places, to.agrees);
}

}  // namespace mla
