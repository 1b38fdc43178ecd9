// What a cell's passes are given.
#pragma once

#include "core/compress/pass.h"
#include "experiments/cell/session.h"
#include "experiments/plan/plan.h"

namespace mla {

/// Statistics, rows, source model and arithmetic for `pass` on `decoder`. Those of the source model (`is_source`) are
/// the session's, of any other model they are measured now and held in `room`.
PassInputs pass_inputs(const CellPlan& cell, Session& session, const Pass& pass, const Decoder& decoder, bool is_source,
                       Statistics& room);

}  // namespace mla
