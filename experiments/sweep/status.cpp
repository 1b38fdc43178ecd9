#include "experiments/sweep/status.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/json.h"
#include "experiments/cell/cell_folder.h"
#include "experiments/cell/claim.h"

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

/// How the cell's record says that it stands; nothing where there is none of this content.
std::optional<CellStatus> recorded_status(const PlannedCell& planned, const path& record) {
  std::error_code error;
  if (std::filesystem::symlink_status(record, error).type() == std::filesystem::file_type::not_found) return {};
  try {
    const RecordHead head = read_record_head(record);
    if (head.content_hash != planned.content_hash) return {};
    return CellStatus{planned.cell, state_of(head.status), head.message, {}, {}};
  } catch (const std::exception& problem) {
    return CellStatus{planned.cell, CellState::kDamaged, problem.what(), {}, {}};
  }
}

CellStatus status_of(const PlannedCell& planned, const path& experiment, std::size_t training_points) {
  CellStatus status{planned.cell, CellState::kPending, "", {}, {}};
  if (const auto recorded = recorded_status(planned, experiment / (planned.cell + ".h5"))) status = *recorded;
  const CellFolder folder(experiment.parent_path(), planned.content_hash);
  if (training_points > 0) status.training = glance_at(folder.metrics(), training_points);
  if (status.state == CellState::kComplete || status.state == CellState::kDiverged) return status;
  if (const auto holder = living_holder(folder.path())) {
    const std::string activity = folder.activity();
    status.state = CellState::kRunning;
    status.note = cat("process ", holder->pid, " on ", holder->host, activity.empty() ? "" : ", ", activity);
  } else if (folder.has_progress()) {
    status.kept = folder.kept();
    if (status.state != CellState::kPending) return status;
    status.state = CellState::kInterrupted;
    status.note = folder.activity();
  }
  return status;
}

PlanFile read_plan(const path& folder) {
  const path file = folder / "plan.json";
  PlanFile plan;
  try {
    read_fields(read_json(file), "", plan);
  } catch (const ConfigError& error) {
    throw DataError(cat(file.string(), ": no plan of a run: ", error.what()));
  }
  return plan;
}

ExperimentStatus read_experiment(const path& folder, std::size_t training_points) {
  const PlanFile plan = read_plan(folder);
  ExperimentStatus status{plan.experiment, {}, ""};
  for (const PlannedCell& cell : plan.cells) status.cells.push_back(status_of(cell, folder, training_points));
  return status;
}

/// One of several: what is wrong with its plan is told beside the others.
ExperimentStatus read_one_of_many(const path& folder, std::size_t training_points) {
  try {
    return read_experiment(folder, training_points);
  } catch (const std::exception& problem) {
    return {folder.filename().string(), {}, problem.what()};
  }
}

bool has_plan(const path& folder) {
  std::error_code error;
  return std::filesystem::symlink_status(folder / "plan.json", error).type() != std::filesystem::file_type::not_found &&
         !error;
}

/// The folder's own name, also where it is given as "." or with a slash at its end.
path whole_name(const path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) throw DataError(cat(folder.string(), ": no such folder"));
  const path absolute = std::filesystem::absolute(folder).lexically_normal() / ".";
  return absolute.parent_path();
}

/// The experiments' folders in a results folder, by name.
std::vector<path> planned_folders(const path& results) {
  std::vector<path> folders;
  std::error_code error;
  for (std::filesystem::directory_iterator it(results, error), end; !error && it != end; it.increment(error)) {
    if (has_plan(it->path())) folders.push_back(it->path());
  }
  if (error) throw DataError(cat(results.string(), ": cannot be read: ", error.message()));
  std::sort(folders.begin(), folders.end());
  return folders;
}

}  // namespace

std::vector<std::pair<std::string, CellState>> enum_names(CellState) {
  return {{"complete", CellState::kComplete}, {"diverged", CellState::kDiverged},
          {"failed", CellState::kFailed},     {"damaged", CellState::kDamaged},
          {"running", CellState::kRunning},   {"interrupted", CellState::kInterrupted},
          {"pending", CellState::kPending}};
}

std::map<CellState, std::int64_t> ExperimentStatus::counts() const {
  std::map<CellState, std::int64_t> counts;
  for (const CellStatus& cell : cells) ++counts[cell.state];
  return counts;
}

std::vector<ExperimentStatus> read_status(const path& folder, std::size_t training_points) {
  const path given = whole_name(folder);
  if (has_plan(given)) return {read_experiment(given, training_points)};
  const std::vector<path> folders = planned_folders(given);
  if (folders.empty()) throw DataError(cat(folder.string(), ": no run has left its plan (plan.json) here"));
  std::vector<ExperimentStatus> all;
  for (const path& one : folders) all.push_back(read_one_of_many(one, training_points));
  return all;
}

std::vector<std::pair<path, KeptProgress>> forgotten_cells(const path& folder) {
  const path given = whole_name(folder), results = has_plan(given) ? given.parent_path() : given;
  std::set<std::string> planned;
  try {
    for (const path& experiment : planned_folders(results)) {
      for (const PlannedCell& cell : read_plan(experiment).cells) planned.insert(cell.content_hash);
    }
  } catch (const std::exception&) {
    return {};  // what it plans is not known
  }
  std::vector<std::pair<path, KeptProgress>> forgotten;
  std::error_code error;
  for (std::filesystem::directory_iterator it(results / ".cells", error), end; !error && it != end;
       it.increment(error)) {
    const std::string hash = it->path().filename().string();
    const CellFolder cell(results, hash);
    if (planned.contains(hash) || !cell.has_progress() || living_holder(cell.path())) continue;
    if (const KeptProgress kept = cell.kept(); kept.steps > 0) forgotten.emplace_back(cell.path(), kept);
  }
  return forgotten;
}

}  // namespace mla
