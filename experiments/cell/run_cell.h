// One cell of an experiment, from source model to record.
#pragma once

#include "core/store/record.h"
#include "experiments/cell/cell_folder.h"
#include "experiments/cell/session.h"
#include "experiments/plan/plan.h"

namespace mla {

/// Calibrates, compresses, evaluates, fine-tunes and evaluates again; what the config leaves out is left out. Goes on
/// from what `folder` holds of an earlier run of this cell that was interrupted or failed, and keeps there what a later
/// one can go on from. Weights are kept, and saved where `save_model` says so, before they are evaluated. Divergence is
/// a status of the record. `provenance` describes this process. Throws on failure and Interrupted.
RunRecord run_cell(const CellPlan& cell, Session& session, const Provenance& provenance, const CellFolder& folder);

/// SAVE_MODEL/<cell>.
std::filesystem::path model_folder(const CellPlan& cell);
/// Whether the config wants a cell's model saved, and its folder holds none, or that of another content hash.
bool lacks_model(const CellPlan& cell, const std::string& hash);
/// Saves the model of a finished cell without training, converting the source model anew.
void save_converted_model(const CellPlan& cell, Session& session, const CellFolder& folder);

/// The record of a cell that failed with `message`.
RunRecord failed_record(const CellPlan& cell, Session& session, const Provenance& provenance,
                        const std::string& message);

}  // namespace mla
