// What the steps of a conversion give to a pass.
#pragma once

#include "core/compress/pass.h"
#include "experiments/attribution/step.h"

namespace mla {

/// A step without options.
struct NoOptions {
  template <class Self, class Visitor>
  static void fields(Self&, Visitor&) {}
};

/// What `pass` needs to convert the source model of the state's cell.
PassInputs pass_inputs(AttributionState& state, const Pass& pass);

}  // namespace mla
