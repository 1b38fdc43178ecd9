// How the experiments of a results folder stand, whoever is working on them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace mla {

enum class CellState { kComplete, kDiverged, kFailed, kRunning, kInterrupted, kPending };
std::vector<std::pair<std::string, CellState>> enum_names(CellState);

struct CellStatus {
  std::string cell;
  CellState state = CellState::kPending;
  std::string note;  ///< a running cell's activity and its process; why one failed or diverged
};

struct ExperimentStatus {
  std::string experiment;
  std::vector<CellStatus> cells;  ///< in the order of the plan
  std::map<CellState, std::int64_t> counts() const;
};

/// The status of `folder`, a results folder or one experiment's within it, from the plans that runs have left there.
/// Throws DataError when there is none.
std::vector<ExperimentStatus> read_status(const std::filesystem::path& folder);

}  // namespace mla
