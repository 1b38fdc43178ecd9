#include "experiments/attribution/conversion.h"

#include "core/base/interrupt.h"
#include "experiments/model/dtype.h"

namespace mla {

void apply_passes(AttributionState& state, const std::vector<PlannedPass>& passes, bool from_source) {
  const ExperimentConfig& options = state.cell.options;
  for (const PlannedPass& planned : passes) {
    PassInputs inputs;
    Statistics own;
    const Requirements requirements = planned.pass->requirements();
    if (!requirements.empty() && from_source) {
      inputs.statistics = &state.session.statistics(options.model, *options.calibration);
    } else if (!requirements.empty()) {
      own = state.session.statistics_of(state.decoder, options.model, *options.calibration, requirements);
      inputs.statistics = &own;
    }
    inputs.arithmetic = parse_dtype(options.arithmetic, "arithmetic");
    inputs.progress = [](std::int64_t) { check_interrupt(); };
    run_pass(planned.name, *planned.pass, state.decoder, inputs);
    from_source = false;
  }
}

}  // namespace mla
