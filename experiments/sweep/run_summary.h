// What a run says about its cells: one line as each ends, one table at the end.
#pragma once

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "core/store/record.h"
#include "experiments/plan/plan.h"

namespace mla {

/// One task's score at each stage that the cell reached.
struct TaskSummary {
  std::string task, metric;
  std::map<std::string, double> by_stage;
};

/// What the table shows of a cell. Each task is represented by its perplexity, or, where it has none, by the metric it
/// states first.
struct CellSummary {
  std::string cell;
  RunStatus status = RunStatus::kComplete;
  double cache_ratio = 1;  ///< cached elements, of the source's
  std::vector<TaskSummary> tasks;
};

CellSummary summarize(const CellPlan& cell, const RunRecord& record);

/// "<cell>: complete, <record's file>", with the reason where it is not complete.
void print_outcome(const CellPlan& cell, const RunRecord& record, std::ostream& out);

/// A row per cell and task: the cache left, and the score of each stage that some cell reached.
void print_summary(const std::vector<CellSummary>& cells, std::ostream& out);

}  // namespace mla
