#include "experiments/cell/pass_inputs.h"

#include "experiments/model/dtype.h"

namespace mla {

PassInputs pass_inputs(const CellPlan& cell, Session& session, const Pass& pass, const Decoder& decoder, bool is_source,
                       Statistics& room) {
  const ExperimentConfig& options = cell.options;
  PassInputs inputs;
  const Requirements requirements = pass.requirements();
  if (!requirements.empty() && is_source) {
    inputs.statistics = &session.statistics(options.model, *options.calibration);
  } else if (!requirements.empty()) {
    room = session.statistics_of(decoder, options.model, *options.calibration, requirements);
    inputs.statistics = &room;
  }
  if (pass.reads_rows()) inputs.rows = &session.rows(options.model, *options.calibration).rows;
  if (pass.reads_source()) inputs.source = &session.source(options.model).decoder;
  inputs.arithmetic = parse_dtype(options.arithmetic, "arithmetic");
  return inputs;
}

}  // namespace mla
