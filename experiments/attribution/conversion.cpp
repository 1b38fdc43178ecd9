#include "experiments/attribution/conversion.h"

#include "core/base/interrupt.h"
#include "experiments/model/dtype.h"

namespace mla {

PassInputs pass_inputs(AttributionState& state, const Pass& pass) {
  const ExperimentConfig& options = state.cell.options;
  PassInputs inputs;
  if (pass.needs_statistics()) inputs.statistics = &state.session.statistics(options.model, *options.calibration);
  inputs.arithmetic = parse_dtype(options.arithmetic, "arithmetic");
  inputs.progress = [](std::int64_t) { check_interrupt(); };
  return inputs;
}

}  // namespace mla
