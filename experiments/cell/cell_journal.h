// What of a cell's training is written down where.
#pragma once

#include <filesystem>
#include <vector>

#include "experiments/cell/cell_folder.h"
#include "experiments/cell/session.h"
#include "experiments/cell/training_journal.h"
#include "experiments/plan/plan.h"

namespace mla {

/// The journal of one stage: lines go to the cell's folder, kept models to RESULTS/<experiment>/checkpoints/<cell>,
/// events to RESULTS/<experiment>/tensorboard/<cell>. `before`: the series of the stages before. What it refers to
/// lives longer than the journal.
JournalPlan journal_plan(const CellPlan& cell, const StagePlan& stage, Session& session, const CellFolder& folder,
                         const TrainingSeries& before, const Checkpoint& model);

/// The scores that the cell's training was measured by on its way, with the units that `scores` give them.
std::vector<TrainingScores> scores_on_the_way(const CellFolder& folder, const std::vector<ScoreRecord>& scores);

/// Saves a model that is being trained as a folder that loads, with `about` in checkpoint.json, in the place of an
/// earlier one.
void keep_checkpoint(const Checkpoint& model, const std::filesystem::path& folder, const Json& about);

}  // namespace mla
