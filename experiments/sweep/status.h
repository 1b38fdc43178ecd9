// How the experiments of a results folder stand, whoever is working on them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "experiments/cell/cell_folder.h"
#include "experiments/sweep/training_glance.h"

namespace mla {

/// Damaged: what lies in the record's place is none that can be read; `run` makes the cell again.
enum class CellState { kComplete, kDiverged, kFailed, kDamaged, kRunning, kInterrupted, kPending };
std::vector<std::pair<std::string, CellState>> enum_names(CellState);

struct CellStatus {
  std::string cell;
  CellState state = CellState::kPending;
  std::string note;   ///< a running cell's activity and its process; why one failed, diverged, or is damaged
  KeptProgress kept;  ///< what a run would go on from, of a cell that none is working on
  std::optional<TrainingGlance> training;  ///< where it was asked for, and the cell trains
};

struct ExperimentStatus {
  std::string experiment;
  std::vector<CellStatus> cells;  ///< in the order of the plan
  std::string problem;            ///< why its plan cannot be read; empty: it can
  std::map<CellState, std::int64_t> counts() const;
};

/// The status of `folder`, a results folder or one experiment's within it, from the plans that runs have left there.
/// Throws DataError when there is none, and for a damaged plan of the one experiment that was asked for; of several, it
/// becomes that one's `problem`. Only reads. `training_points`: of the losses that a glance at each training shows; 0:
/// none is thrown.
std::vector<ExperimentStatus> read_status(const std::filesystem::path& folder, std::size_t training_points = 0);

/// Folders of cells that no experiment of the results folder plans any more, with what they keep to go on from; none
/// while a plan cannot be read. `folder` as above.
std::vector<std::pair<std::filesystem::path, KeptProgress>> forgotten_cells(const std::filesystem::path& folder);

}  // namespace mla
