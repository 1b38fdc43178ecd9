// One cell of an experiment, from source model to record.
#pragma once

#include "core/store/record.h"
#include "experiments/plan.h"
#include "experiments/session.h"
#include "experiments/sweep/cell_folder.h"

namespace mla {

/// Calibrates, compresses, evaluates, fine-tunes and evaluates again; what the config leaves out is left out. Goes on
/// from what `folder` holds of an earlier, interrupted run of this cell, and keeps there what a later one can go on
/// from. Divergence is a status of the record. `provenance` describes this process. Throws on failure and Interrupted.
RunRecord run_cell(const CellPlan& cell, Session& session, const Provenance& provenance, const CellFolder& folder);

/// The record of a cell that failed with `message`.
RunRecord failed_record(const CellPlan& cell, Session& session, const Provenance& provenance,
                        const std::string& message);

}  // namespace mla
