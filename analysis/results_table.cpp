#include "analysis/results_table.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <tuple>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kStages[] = {"fine_tuned", "converted", "source"};
constexpr const char* kPerplexity = "perplexity";
constexpr const char* kAverage = "average";

const ScoreRecord* find_score(const RunRecord& record, const std::string& stage, const std::string& task,
                              const std::string& metric) {
  const auto found = std::find_if(record.evaluation.begin(), record.evaluation.end(), [&](const ScoreRecord& score) {
    return score.stage == stage && score.task == task && score.metric == metric;
  });
  return found == record.evaluation.end() ? nullptr : &*found;
}

/// The wanted stage, or the last one that the record has scores of.
std::string stage_of(const RunRecord& record, const std::string& wanted) {
  for (const char* stage : kStages) {
    if (!wanted.empty() && stage != wanted) continue;
    for (const ScoreRecord& score : record.evaluation) {
      if (score.stage == stage) return stage;
    }
  }
  return "";
}

/// The tasks that have `metric` in any record, in the order met.
std::vector<std::string> tasks_with(const std::vector<const RunRecord*>& records, const std::string& metric) {
  std::vector<std::string> tasks;
  for (const RunRecord* record : records) {
    for (const ScoreRecord& score : record->evaluation) {
      if (score.metric == metric && std::find(tasks.begin(), tasks.end(), score.task) == tasks.end()) {
        tasks.push_back(score.task);
      }
    }
  }
  return tasks;
}

TableValue mean_of(const std::vector<TableValue>& values) {
  if (values.size() == 1) return values.front();
  double sum = 0, squares = 0;
  for (const TableValue& value : values) sum += value.mean;
  const double count = static_cast<double>(values.size()), mean = sum / count;
  for (const TableValue& value : values) squares += (value.mean - mean) * (value.mean - mean);
  return {mean, std::sqrt(squares / (count - 1) / count)};
}

/// The mean of several tasks of one run; errors of different tasks are independent.
TableValue average_of(const std::vector<TableValue>& tasks) {
  TableValue average{0, 0};
  const double count = static_cast<double>(tasks.size());
  for (const TableValue& task : tasks) {
    average.mean += task.mean / count;
    const double error = task.error.value_or(0);
    *average.error += error * error / (count * count);
  }
  average.error = std::sqrt(*average.error);
  return average;
}

struct Columns {
  std::vector<std::string> choices, perplexities;
  std::string metric;

  std::vector<std::string> names() const {
    std::vector<std::string> all = choices;
    if (!choices.empty()) all.emplace_back(kAverage);
    all.insert(all.end(), perplexities.begin(), perplexities.end());
    return all;
  }
};

/// One run's values, one per column.
std::vector<std::optional<TableValue>> values_of(const RunRecord& record, const std::string& stage,
                                                 const Columns& columns) {
  std::vector<std::optional<TableValue>> values;
  std::vector<TableValue> reached;
  const auto add = [&](const std::string& task, const std::string& metric, double scale) {
    const ScoreRecord* score = find_score(record, stage, task, metric);
    values.emplace_back();
    if (!score) return;
    values.back() = TableValue{scale * score->value, {}};
    if (score->standard_error) values.back()->error = scale * *score->standard_error;
  };
  for (const std::string& task : columns.choices) {
    add(task, columns.metric, 100);
    if (values.back()) reached.push_back(*values.back());
  }
  if (!columns.choices.empty()) {
    values.emplace_back();
    if (reached.size() == columns.choices.size()) values.back() = average_of(reached);
  }
  for (const std::string& task : columns.perplexities) add(task, kPerplexity, 1);
  return values;
}

/// "two_norm r=2" and "joint_svd d_kv=8": a strategy's name and what sizes it.
std::string strategy(const Json& options, const char* size, const char* label) {
  if (!options.is_object()) return "";
  std::string text = options.value("name", "");
  if (options.contains(size)) text += cat(" ", label, "=", options.at(size).dump());
  return text;
}

ResultsTableRow row_head(const RunRecord& record) {
  ResultsTableRow row;
  row.model = std::filesystem::path(record.config.value("model", Json::object()).value("path", "")).filename().string();
  row.saving = 100 * (1 - cache_ratio(record));
  const Json passes = record.config.value("compress", Json::array());
  if (passes.empty()) {
    row.rope = "all";
    return row;
  }
  const Json& pass = passes.back();
  row.rope = strategy(pass.value("rope", Json()), "pairs", "r");
  row.low_rank = strategy(pass.value("low_rank", Json()), "d_kv", "d_kv");
  if (row.low_rank.starts_with("none")) row.low_rank = "none";
  return row;
}

/// What the runs of one row have in common: the config without seeds.
std::string group_of(const RunRecord& record) {
  Json config = record.config;
  for (const char* key : {"seed", "name", "description", "results"}) config.erase(key);
  if (config.contains("train") && config["train"].is_object()) config["train"].erase("seed");
  return config.dump();
}

struct Group {
  ResultsTableRow row;
  std::vector<std::vector<std::optional<TableValue>>> runs;
};

void finish(Group& group) {
  group.row.runs = group.runs.size();
  for (std::size_t column = 0; column < group.runs.front().size(); ++column) {
    std::vector<TableValue> reached;
    for (const auto& run : group.runs) {
      if (run[column]) reached.push_back(*run[column]);
    }
    group.row.values.emplace_back();
    if (!reached.empty()) group.row.values.back() = mean_of(reached);
  }
}

/// Rows in the order met, except that a source model stands before its derivatives and more cache before less.
std::vector<ResultsTableRow> collect_rows(const std::vector<const RunRecord*>& records, const Columns& columns,
                                          const std::string& wanted) {
  std::vector<Group> groups;
  std::map<std::string, std::size_t> known;
  const auto group = [&](const std::string& key, const ResultsTableRow& head) -> Group& {
    const auto [found, is_new] = known.try_emplace(key, groups.size());
    if (is_new) groups.push_back({head, {}});
    return groups[found->second];
  };
  for (const RunRecord* record : records) {
    ResultsTableRow head = row_head(*record);
    ResultsTableRow source = head;
    source.rope = "all";
    source.low_rank.clear();
    source.saving = 0;
    source.stage = "source";
    Group& original = group("source " + head.model, source);
    if (original.runs.empty()) original.runs.push_back(values_of(*record, "source", columns));
    head.stage = stage_of(*record, wanted);
    if (head.stage.empty() || head.stage == "source") continue;
    Group& mine = group(head.stage + group_of(*record), head);
    mine.runs.push_back(values_of(*record, head.stage, columns));
    mine.row.diverged += record->head.status == RunStatus::kDiverged;
  }
  std::vector<ResultsTableRow> rows;
  for (Group& each : groups) {
    finish(each);
    rows.push_back(std::move(each.row));
  }
  std::stable_sort(rows.begin(), rows.end(), [](const ResultsTableRow& a, const ResultsTableRow& b) {
    const auto key = [](const ResultsTableRow& row) { return std::tuple(row.model, row.saving, row.stage != "source"); };
    return key(a) < key(b);
  });
  return rows;
}

}  // namespace

ResultsTable make_results_table(const Summary& summary, const ResultsTableOptions& options) {
  const std::vector<std::string> stages(std::begin(kStages), std::end(kStages));
  if (!options.stage.empty() && std::find(stages.begin(), stages.end(), options.stage) == stages.end()) {
    throw ConfigError(cat("--stage: ", unknown_name(options.stage, stages)));
  }
  ResultsTable table;
  std::vector<const RunRecord*> records;
  for (const SummaryEntry& entry : summary.entries) {
    if (!entry.problem.empty()) {
      table.notes.push_back(entry.problem);
    } else if (entry.record.head.status == RunStatus::kFailed) {
      table.notes.push_back(cat(entry.path.string(), ": failed: ", entry.record.head.message));
    } else {
      records.push_back(&entry.record);
    }
  }
  const Columns columns{tasks_with(records, options.metric), tasks_with(records, kPerplexity), options.metric};
  table.columns = columns.names();
  if (table.columns.empty()) {
    throw DataError(cat("no record has a score of metric ", options.metric, " or a perplexity"));
  }
  table.rows = collect_rows(records, columns, options.stage);
  return table;
}

}  // namespace mla
