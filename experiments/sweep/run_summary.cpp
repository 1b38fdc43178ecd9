#include "experiments/sweep/run_summary.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

constexpr const char* kPreferredMetric = "perplexity";
constexpr const char* kStages[] = {"source", "converted", "fine_tuned"};

TaskSummary& task_of(std::vector<TaskSummary>& tasks, const ScoreRecord& score) {
  const auto found =
      std::find_if(tasks.begin(), tasks.end(), [&](const TaskSummary& task) { return task.task == score.task; });
  return found != tasks.end() ? *found : tasks.emplace_back(TaskSummary{score.task, score.metric, {}});
}

/// The stages that become columns.
std::vector<std::string> stages_of(const std::vector<CellSummary>& cells) {
  std::vector<std::string> reached;
  for (const char* stage : kStages) {
    const bool any = std::any_of(cells.begin(), cells.end(), [&](const CellSummary& cell) {
      return std::any_of(cell.tasks.begin(), cell.tasks.end(),
                         [&](const TaskSummary& task) { return task.by_stage.contains(stage); });
    });
    if (any) reached.emplace_back(stage);
  }
  return reached;
}

std::vector<std::string> row_of(const CellSummary& cell, const TaskSummary& task,
                                const std::vector<std::string>& stages) {
  const std::string measure = task.task == task.metric ? task.task : cat(task.task, " ", task.metric);
  std::vector<std::string> row = {cell.cell, cat(rounded(100 * cell.cache_ratio, 4), " %"), measure};
  for (const std::string& stage : stages) {
    const auto score = task.by_stage.find(stage);
    row.push_back(score == task.by_stage.end() ? "" : rounded(score->second, 4));
  }
  row.push_back(write_fields(cell.status).get<std::string>());
  return row;
}

}  // namespace

CellSummary summarize(const CellPlan& cell, const RunRecord& record) {
  CellSummary summary;
  summary.cell = cell.name;
  summary.status = record.head.status;
  summary.cache_ratio = cell.cache_ratio();
  for (const ScoreRecord& score : record.evaluation) {
    TaskSummary& task = task_of(summary.tasks, score);
    if (score.metric == kPreferredMetric && task.metric != score.metric) task = {score.task, score.metric, {}};
    if (score.metric == task.metric) task.by_stage[score.stage] = score.value;
  }
  return summary;
}

void print_outcome(const CellPlan& cell, const RunRecord& record, std::ostream& out) {
  out << cell.name << ": " << write_fields(record.head.status).get<std::string>();
  if (!record.head.message.empty()) out << " (" << record.head.message << ")";
  out << ", " << cell.record.string() << std::endl;  // shown at once: the next cell may take long
}

void print_summary(const std::vector<CellSummary>& cells, std::ostream& out) {
  const std::vector<std::string> stages = stages_of(cells);
  std::vector<std::string> heading = {"cell", "cache left", "measure"};
  heading.insert(heading.end(), stages.begin(), stages.end());
  heading.emplace_back("status");
  Table table(heading);
  for (const CellSummary& cell : cells) {
    const std::vector<TaskSummary> tasks = cell.tasks.empty() ? std::vector<TaskSummary>(1) : cell.tasks;
    for (const TaskSummary& task : tasks) table.add(row_of(cell, task, stages));
  }
  out << "\n";
  table.print(out);
}

}  // namespace mla
