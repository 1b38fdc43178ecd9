// What the steps of a conversion do with passes.
#pragma once

#include <vector>

#include "experiments/attribution/step.h"
#include "experiments/plan/pass_list.h"

namespace mla {

/// A step without options.
struct NoOptions {
  template <class Self, class Visitor>
  static void fields(Self&, Visitor&) {}
};

/// Applies passes to the state's decoder, the first of them to the source model where `from_source`.
void apply_passes(AttributionState& state, const std::vector<PlannedPass>& passes, bool from_source);

}  // namespace mla
