// Which cells of a plan a sweep is about: those that were asked for, those that are left.
#include <fnmatch.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/store/record_file.h"
#include "experiments/cell/identity.h"
#include "experiments/sweep/finished_records.h"
#include "experiments/sweep/sweep.h"

namespace mla {
namespace {

bool matches(const std::string& pattern, const std::string& name) {
  return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0 || name.find(pattern) != std::string::npos;
}

/// The hash that a cell's record has, or will have: one of the earlier rule stays where it is.
std::string hash_in_plan(const CellPlan& cell, const CellIdentity& identity) {
  try {
    const RecordHead head = read_record_head(cell.record);
    if (identity.names(head.content_hash)) return head.content_hash;
  } catch (const std::exception&) {  // missing, or damaged, and then made again
  }
  return identity.hash;
}

}  // namespace

std::vector<const CellPlan*> select_cells(const ExperimentPlan& plan, const std::string& only) {
  std::vector<const CellPlan*> cells;
  for (const CellPlan& cell : plan.cells) {
    if (cell.name == only) return {&cell};
    if (only.empty() || matches(only, cell.name)) cells.push_back(&cell);
  }
  if (cells.empty()) {
    throw ConfigError(cat("--only ", only, ": no cell has such a name; the first of ", plan.cells.size(), " is ",
                          plan.cells.front().name));
  }
  return cells;
}

void write_plan_file(const ExperimentPlan& plan, Session& session) {
  Json cells = Json::array();
  for (const CellPlan& cell : plan.cells) {
    cells.push_back({{"cell", cell.name}, {"content_hash", hash_in_plan(cell, identify(cell, session))}});
  }
  const std::filesystem::path folder = plan.cells.front().record.parent_path();
  write_file_in_turn(folder / "plan.json", Json{{"experiment", plan.name}, {"cells", cells}}.dump(1) + "\n");
}

std::vector<const CellPlan*> unfinished_cells(const ExperimentPlan& plan, Session& session,
                                              const SweepOptions& options) {
  std::vector<const CellPlan*> cells = select_cells(plan, options.only);
  std::erase_if(cells, [&](const CellPlan* cell) {
    const CellIdentity identity = identify(*cell, session);
    const auto elsewhere = record_of_content(cell->options.results, identity);
    try {
      return holds_result(cell->record, identity, options) ||
             (elsewhere && holds_result(*elsewhere, identity, options));
    } catch (const DataError&) {
      return false;
    }
  });
  return cells;
}

}  // namespace mla
