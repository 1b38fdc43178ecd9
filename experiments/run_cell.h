// One cell of an experiment, from source model to record.
#pragma once

#include "core/store/record.h"
#include "experiments/plan.h"
#include "experiments/session.h"

namespace mla {

/// Hash of everything a cell's result depends on: its resolved config without names and places, and its data.
std::string content_hash(const CellPlan& cell, Session& session);

/// Calibrates, compresses, evaluates, fine-tunes and evaluates again; what the config leaves out is left out.
/// Divergence is a status of the record. `provenance` describes this process. Throws on failure and Interrupted.
RunRecord run_cell(const CellPlan& cell, Session& session, const Provenance& provenance);

/// The record of a cell that failed with `message`.
RunRecord failed_record(const CellPlan& cell, Session& session, const Provenance& provenance, const std::string& message);

}  // namespace mla
