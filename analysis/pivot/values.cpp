#include "analysis/pivot/values.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.h"

namespace mla {
namespace {

/// Tasks with `metric`, those that the spec orders first and the rest as they are met.
std::vector<TaskColumn> tasks_with(const std::vector<Item>& items, const std::string& metric, const TableSpec& spec) {
  std::vector<std::string> met;
  for (const Item& item : items) {
    for (const ScoreOutline& score : item.observation.record->outline.evaluation) {
      const auto task = score.metric == metric ? task_of(item.observation, score) : std::nullopt;
      if (task && !contains(met, *task)) met.push_back(*task);
    }
  }
  std::vector<TaskColumn> columns;
  std::set<std::string> taken;
  for (TaskColumn column : spec.tasks) {
    if (column.tasks.empty()) column.tasks = {column.name};
    const bool any = std::any_of(column.tasks.begin(), column.tasks.end(),
                                 [&](const std::string& task) { return contains(met, task); });
    taken.insert(column.tasks.begin(), column.tasks.end());
    if (any) columns.push_back(std::move(column));
  }
  for (const std::string& task : met) {
    if (!taken.contains(task) && !contains(spec.leave_out, task)) columns.push_back({task, {task}});
  }
  return columns;
}

/// Takes direction and kind from the first score that a column shows.
void describe(const std::vector<Item>& items, ValueSpec& value) {
  for (const Item& item : items) {
    for (const auto& [task, metric] : value.parts) {
      if (const ScoreOutline* score = find_score(item.observation, task.empty() ? item.task : task, metric)) {
        value.share = is_share(*score);
        value.higher_is_better = score->higher_is_better;
        return;
      }
    }
  }
}

bool is_run_number(const std::vector<Item>& items, const std::string& name) {
  const auto& known = run_numbers();
  return std::any_of(known.begin(), known.end(), [&](const DimensionName& each) { return each.name == name; }) ||
         name.starts_with("seconds.") || name.starts_with("/") ||
         std::any_of(items.begin(), items.end(),
                     [&](const Item& item) { return run_number(item.observation, name).has_value(); });
}

/// The mean of several tasks of one run; errors of different tasks are independent.
TableValue average_of(const std::vector<TableValue>& tasks) {
  TableValue average;
  const double count = static_cast<double>(tasks.size());
  double squares = 0;
  bool known = true;
  for (const TableValue& task : tasks) {
    average.mean += task.mean / count;
    known = known && task.error;
    squares += task.error.value_or(0) * task.error.value_or(0);
  }
  if (known) average.error = std::sqrt(squares) / count;
  average.sample_error = average.error;
  return average;
}

}  // namespace

bool is_share(const ScoreOutline& score) {
  return score.unit.starts_with("share") || score.unit == "0..1" || score.metric.starts_with("accuracy");
}

std::vector<ValueSpec> value_specs(const std::vector<Item>& items, const TableSpec& spec) {
  const bool by_task = contains(spec.rows, "task") || contains(spec.columns, "task");
  std::vector<ValueSpec> values;
  const auto add = [&](const std::string& name, const std::string& longer,
                       std::vector<std::pair<std::string, std::string>> parts) {
    const bool taken =
        std::any_of(values.begin(), values.end(), [&](const ValueSpec& value) { return value.name == name; });
    values.push_back({taken ? longer : name, std::move(parts), "", false, true});
    describe(items, values.back());
  };
  for (const std::string& metric : spec.metrics) {
    if (is_run_number(items, metric)) {
      values.push_back({metric, {}, metric, false, false});
    } else if (const std::size_t slash = metric.find('/'); slash != std::string::npos) {
      add(metric, metric, {{metric.substr(0, slash), metric.substr(slash + 1)}});
    } else if (by_task) {
      add(metric, metric, {{"", metric}});
    } else {
      for (const TaskColumn& column : tasks_with(items, metric, spec)) {
        std::vector<std::pair<std::string, std::string>> parts;
        for (const std::string& task : column.tasks) parts.emplace_back(task, metric);
        add(column.name, cat(column.name, "/", metric), std::move(parts));
      }
    }
  }
  return values;
}

std::optional<TableValue> value_of(const Item& item, const ValueSpec& value) {
  if (!value.number.empty()) {
    const auto number = run_number(item.observation, value.number);
    return number ? std::optional(TableValue{*number, {}, {}, {}, 1, false}) : std::nullopt;
  }
  std::vector<TableValue> reached;
  const double scale = value.share ? 100 : 1;
  for (const auto& [task, metric] : value.parts) {
    const ScoreOutline* score = find_score(item.observation, task.empty() ? item.task : task, metric);
    if (!score) return {};
    TableValue found;
    found.mean = scale * score->value;
    if (score->standard_error) found.error = found.sample_error = scale * *score->standard_error;
    reached.push_back(found);
  }
  return reached.size() == 1 ? reached.front() : average_of(reached);
}

Values values_of(const Item& item, const std::vector<ValueSpec>& specs, std::optional<std::size_t> average_after) {
  Values values;
  std::vector<TableValue> reached;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    values.push_back(value_of(item, specs[i]));
    if (specs[i].share && values.back()) reached.push_back(*values.back());
    if (average_after != i + 1) continue;
    values.emplace_back();
    if (reached.size() == *average_after) values.back() = average_of(reached);
  }
  return values;
}

}  // namespace mla
