#include "experiments/attribution/conversion.h"

#include "core/base/interrupt.h"
#include "experiments/cell/pass_inputs.h"

namespace mla {

void apply_passes(AttributionState& state, const std::vector<PlannedPass>& passes, bool from_source) {
  for (const PlannedPass& planned : passes) {
    Statistics room;
    PassInputs inputs = pass_inputs(state.cell, state.session, *planned.pass, state.decoder, from_source, room);
    inputs.progress = [](std::int64_t) { check_interrupt(); };
    run_pass(planned.name, *planned.pass, state.decoder, inputs);
    from_source = false;
  }
}

}  // namespace mla
