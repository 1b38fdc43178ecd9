#include "experiments/sweep/status.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/json.h"
#include "experiments/sweep/cell_folder.h"
#include "experiments/sweep/claim.h"

namespace mla {
namespace {

using std::filesystem::path;

/// One cell's line of a plan file.
struct PlannedCell {
  std::string cell, content_hash;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("cell", self.cell, "name");
    visit("content_hash", self.content_hash, "of everything the result depends on");
  }
};

struct PlanFile {
  std::string experiment;
  std::vector<PlannedCell> cells;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("experiment", self.experiment, "name");
    visit("cells", self.cells, "in the order of the grid");
  }
};

CellState state_of(RunStatus status) {
  switch (status) {
    case RunStatus::kComplete:
      return CellState::kComplete;
    case RunStatus::kDiverged:
      return CellState::kDiverged;
    case RunStatus::kFailed:
      return CellState::kFailed;
    case RunStatus::kInterrupted:
      return CellState::kInterrupted;
  }
  return CellState::kPending;
}

CellStatus status_of(const PlannedCell& planned, const path& experiment) {
  CellStatus status{planned.cell, CellState::kPending, ""};
  const path record = experiment / (planned.cell + ".h5");
  if (std::filesystem::exists(record)) {
    const RecordHead head = read_record_head(record);
    if (head.content_hash == planned.content_hash) return {planned.cell, state_of(head.status), head.message};
  }
  const CellFolder folder(experiment.parent_path(), planned.content_hash);
  if (const auto holder = living_holder(folder.path())) {
    const std::string activity = folder.activity();
    status.state = CellState::kRunning;
    status.note = cat("process ", holder->pid, " on ", holder->host, activity.empty() ? "" : ", ", activity);
  } else if (folder.has_progress()) {
    status.state = CellState::kInterrupted;
    status.note = folder.activity();
  }
  return status;
}

ExperimentStatus read_experiment(const path& folder) {
  const path file = folder / "plan.json";
  PlanFile plan;
  try {
    read_fields(read_json(file), "", plan);
  } catch (const ConfigError& error) {
    throw DataError(cat(file.string(), ": no plan of a run: ", error.what()));
  }
  ExperimentStatus status{plan.experiment, {}};
  for (const PlannedCell& cell : plan.cells) status.cells.push_back(status_of(cell, folder));
  return status;
}

}  // namespace

std::vector<std::pair<std::string, CellState>> enum_names(CellState) {
  return {{"complete", CellState::kComplete},       {"diverged", CellState::kDiverged},
          {"failed", CellState::kFailed},           {"running", CellState::kRunning},
          {"interrupted", CellState::kInterrupted}, {"pending", CellState::kPending}};
}

std::map<CellState, std::int64_t> ExperimentStatus::counts() const {
  std::map<CellState, std::int64_t> counts;
  for (const CellStatus& cell : cells) ++counts[cell.state];
  return counts;
}

std::vector<ExperimentStatus> read_status(const path& folder) {
  if (!std::filesystem::is_directory(folder)) throw DataError(cat(folder.string(), ": no such folder"));
  const path absolute = std::filesystem::absolute(folder).lexically_normal() / ".";
  const path given = absolute.parent_path();
  if (std::filesystem::exists(given / "plan.json")) return {read_experiment(given)};
  std::vector<path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(given)) {
    if (std::filesystem::exists(entry.path() / "plan.json")) folders.push_back(entry.path());
  }
  if (folders.empty()) throw DataError(cat(folder.string(), ": no run has left its plan (plan.json) here"));
  std::sort(folders.begin(), folders.end());
  std::vector<ExperimentStatus> all;
  for (const path& one : folders) all.push_back(read_experiment(one));
  return all;
}

}  // namespace mla
