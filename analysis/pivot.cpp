#include "analysis/pivot.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "analysis/dimension.h"
#include "analysis/paper.h"
#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kAverage = "average";
const std::vector<std::string> kLessIsBetter = {"bytes_per_token", "cached_elements", "joint_error",
                                                "key_error",       "value_error",     "seconds"};

/// A stage of a record, or one task of it where tasks are a key.
struct Item {
  Observation observation;
  std::string task;
};

Json key_of(const Item& item, const std::string& name) {
  return name == "task" ? Json(item.task) : dimension(item.observation, name);
}

/// What one column per column key shows.
struct ValueSpec {
  std::string name;
  std::vector<std::pair<std::string, std::string>> parts;  ///< task and metric whose mean it is; no task: the item's
  std::string number;                                      ///< a number of the run instead
  bool share = false;                                      ///< shown in percent
  bool higher_is_better = true;
};

bool has(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// ---- which runs ----

struct Filter {
  std::string key;
  std::vector<std::string> patterns;
  bool negated = false;
};

std::vector<Filter> parse_filters(const RecordSet& set, const std::vector<std::string>& texts) {
  std::vector<Filter> filters;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      throw ConfigError(cat("--where ", text, ": expected KEY=VALUE or KEY!=VALUE"));
    Filter filter;
    filter.negated = text[equals - 1] == '!';
    filter.key = text.substr(0, equals - (filter.negated ? 1 : 0));
    for (std::size_t at = equals + 1;;) {
      const std::size_t comma = text.find(',', at);
      filter.patterns.push_back(text.substr(at, comma - at));
      if (comma == std::string::npos) break;
      at = comma + 1;
    }
    if (filter.key != "task") check_dimension(set, filter.key, "--where");
    filters.push_back(std::move(filter));
  }
  return filters;
}

bool passes(const Item& item, const std::vector<Filter>& filters) {
  return std::all_of(filters.begin(), filters.end(), [&](const Filter& filter) {
    if (filter.key == "task" && item.task.empty()) return true;
    const std::string value = plain_text(key_of(item, filter.key));
    const bool found = std::any_of(filter.patterns.begin(), filter.patterns.end(),
                                   [&](const std::string& pattern) { return fits(value, pattern); });
    return found != filter.negated;
  });
}

/// Records that count, and notes on those that do not.
std::vector<const LoadedRecord*> usable(const RecordSet& set, Table& table) {
  std::vector<const LoadedRecord*> records;
  std::map<std::string, std::vector<const LoadedRecord*>> by_hash;
  table.left_out = skipped_notes(set);
  for (const LoadedRecord& record : set.records) {
    const RecordHead& head = record.outline.head;
    if (head.status == RunStatus::kFailed || head.status == RunStatus::kInterrupted) {
      table.left_out.push_back(
          cat(record.path.string(), ": ", status_name(record.outline), head.message.empty() ? "" : ": ", head.message));
      continue;
    }
    auto& same = by_hash[head.content_hash];
    const auto twin = std::find_if(same.begin(), same.end(), [&](const LoadedRecord* other) {
      return !head.content_hash.empty() &&
             config_identity(other->outline.config) == config_identity(record.outline.config);
    });
    if (twin != same.end()) {
      table.left_out.push_back(cat(record.path.string(), ": the same run as ", (*twin)->path.string()));
      continue;
    }
    same.push_back(&record);
    records.push_back(&record);
  }
  return records;
}

std::vector<std::string> stages_of(const RecordOutline& record) {
  std::vector<std::string> stages;
  for (const ScoreOutline& score : record.evaluation) {
    if (!has(stages, score.stage)) stages.push_back(score.stage);
  }
  return stages;
}

std::vector<std::string> tasks_of(const Observation& observation) {
  std::vector<std::string> tasks;
  for (const ScoreOutline& score : observation.record->outline.evaluation) {
    if (score.stage == observation.stage && !has(tasks, score.task)) tasks.push_back(score.task);
  }
  return tasks;
}

std::vector<Item> collect_items(const RecordSet& set, const std::vector<const LoadedRecord*>& records,
                                const TableSpec& spec) {
  const std::vector<Filter> filters = parse_filters(set, spec.where);
  const bool by_task = has(spec.rows, "task") || has(spec.columns, "task");
  const bool all_stages =
      spec.stage == "all" ||
      (spec.stage.empty() && (has(spec.rows, "stage") || has(spec.columns, "stage")) && !spec.separate_configs);
  std::vector<Item> items;
  std::set<std::string> sources;
  const auto add = [&](const Observation& observation) {
    if (!by_task) {
      items.push_back({observation, ""});
      return;
    }
    for (const std::string& task : tasks_of(observation)) {
      if (passes({observation, task}, filters)) items.push_back({observation, task});
    }
  };
  for (const LoadedRecord* record : records) {
    std::vector<std::string> stages =
        all_stages ? stages_of(record->outline) : std::vector{stage_of(record->outline, spec.stage)};
    if (stages == std::vector<std::string>{""} && spec.stage.empty() && !spec.source)
      stages = {"none"};  // not evaluated, but it has numbers
    const auto real =
        std::find_if(stages.begin(), stages.end(), [](const std::string& stage) { return stage != "source"; });
    const Observation last{record, real == stages.end() ? "source" : *real, real == stages.end()};
    if (spec.source && stage_of(record->outline, "source") == "source" && passes({last, ""}, filters)) {
      const Observation source{record, "source", true};
      if (sources.insert(plain_text(dimension(source, "model"))).second) add(source);
    }
    for (const std::string& stage : stages) {
      const Observation observation{record, stage, stage == "source"};
      if (stage.empty() || (spec.source && stage == "source") || !passes({observation, ""}, filters)) continue;
      add(observation);
    }
  }
  return items;
}

// ---- which numbers ----

const ScoreOutline* find_score(const Observation& observation, const std::string& task, const std::string& metric) {
  const auto& scores = observation.record->outline.evaluation;
  const auto found = std::find_if(scores.begin(), scores.end(), [&](const ScoreOutline& score) {
    return score.stage == observation.stage && score.task == task && score.metric == metric;
  });
  return found == scores.end() ? nullptr : &*found;
}

bool is_share(const ScoreOutline& score) {
  return score.unit.starts_with("share") || score.unit == "0..1" || score.metric.starts_with("accuracy");
}

/// Tasks with `metric`, those that the spec orders first and the rest as they are met.
std::vector<TaskColumn> tasks_with(const std::vector<Item>& items, const std::string& metric, const TableSpec& spec) {
  std::vector<std::string> met;
  for (const Item& item : items) {
    for (const ScoreOutline& score : item.observation.record->outline.evaluation) {
      if (score.stage == item.observation.stage && score.metric == metric && !has(met, score.task))
        met.push_back(score.task);
    }
  }
  std::vector<TaskColumn> columns;
  std::set<std::string> taken;
  for (TaskColumn column : spec.tasks) {
    if (column.tasks.empty()) column.tasks = {column.name};
    const bool any =
        std::any_of(column.tasks.begin(), column.tasks.end(), [&](const std::string& task) { return has(met, task); });
    taken.insert(column.tasks.begin(), column.tasks.end());
    if (any) columns.push_back(std::move(column));
  }
  for (const std::string& task : met) {
    if (!taken.contains(task) && !has(spec.leave_out, task)) columns.push_back({task, {task}});
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

std::vector<ValueSpec> value_specs(const std::vector<Item>& items, const TableSpec& spec) {
  const bool by_task = has(spec.rows, "task") || has(spec.columns, "task");
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

using Values = std::vector<std::optional<TableValue>>;

/// One item's values, one per spec, with their average after the shares where it is wanted.
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

/// Over runs that differ in their seeds; the samples are the same in all, so that their error does not shrink.
TableValue mean_of(const std::vector<TableValue>& values) {
  if (values.size() == 1) return values.front();
  TableValue result;
  double squares = 0, sample_squares = 0;
  bool samples = true;
  const double count = static_cast<double>(values.size());
  for (const TableValue& value : values) result.mean += value.mean / count;
  for (const TableValue& value : values) {
    squares += (value.mean - result.mean) * (value.mean - result.mean);
    samples = samples && value.sample_error;
    sample_squares += value.sample_error.value_or(0) * value.sample_error.value_or(0);
  }
  result.run_error = result.error = std::sqrt(squares / (count - 1) / count);
  if (samples) result.sample_error = std::sqrt(sample_squares / count);
  result.runs = values.size();
  return result;
}

// ---- rows and columns ----

/// Numbers by size, then texts by letters; no value comes first.
bool before(const Json& a, const Json& b) {
  const auto rank = [](const Json& value) { return value.is_null() ? 0 : value.is_number() ? 1 : 2; };
  if (rank(a) != rank(b)) return rank(a) < rank(b);
  if (a.is_number()) return a.get<double>() < b.get<double>();
  return plain_text(a) < plain_text(b);
}

bool before(const std::vector<Json>& a, const std::vector<Json>& b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [](const Json& x, const Json& y) { return before(x, y); });
}

struct KeyOrder {
  bool operator()(const std::vector<Json>& a, const std::vector<Json>& b) const { return before(a, b); }
};

struct Group {
  std::vector<Json> keys;
  const Item* example = nullptr;
  std::set<const LoadedRecord*> records;
  std::map<std::vector<Json>, std::vector<Values>, KeyOrder> runs;  ///< by column key
  std::map<std::vector<Json>, std::set<std::string>, KeyOrder> configs;
};

/// Texts of configs without seeds, once per record.
class ConfigTexts {
 public:
  const std::string& of(const LoadedRecord& record) {
    const auto [found, is_new] = texts_.try_emplace(&record);
    if (is_new) found->second = config_without_seeds(record.outline.config).dump();
    return found->second;
  }

 private:
  std::map<const LoadedRecord*, std::string> texts_;
};

std::vector<Group> collect_groups(const std::vector<Item>& items, const TableSpec& spec,
                                  const std::vector<ValueSpec>& specs, std::optional<std::size_t> average_after) {
  std::vector<Group> groups;
  std::map<std::string, std::size_t> known;
  ConfigTexts configs;
  for (const Item& item : items) {
    std::vector<Json> keys, column;
    std::string text;
    for (const std::string& name : spec.rows) {
      keys.push_back(key_of(item, name));
      text += cat(keys.back().dump(), "\n");
    }
    for (const std::string& name : spec.columns) column.push_back(key_of(item, name));
    if (spec.separate_configs && !item.observation.as_source) text += configs.of(*item.observation.record);
    const auto [found, is_new] = known.try_emplace(text, groups.size());
    if (is_new) groups.push_back({keys, &item, {}, {}, {}});
    Group& group = groups[found->second];
    group.records.insert(item.observation.record);
    group.runs[column].push_back(values_of(item, specs, average_after));
    if (!item.observation.as_source) group.configs[column].insert(configs.of(*item.observation.record));
  }
  return groups;
}

/// Config paths whose values differ between texts that share a cell of the table.
std::set<std::string> mixed_paths(const std::vector<Group>& groups) {
  constexpr std::size_t kLooked = 50;
  std::set<std::string> paths;
  std::size_t looked = 0;
  for (const Group& group : groups) {
    for (const auto& [column, texts] : group.configs) {
      if (texts.size() < 2 || ++looked > kLooked) continue;
      const Json first = Json::parse(*texts.begin());
      for (const std::string& text : texts) {
        const Json other = Json::parse(text);
        for (const Json* side : {&first, &other}) {
          for (const std::string& path : leaf_paths(*side)) {
            const Json *a = find_at(first, path), *b = find_at(other, path);
            if (!a || !b || *a != *b) paths.insert(path);
          }
        }
      }
    }
  }
  return paths;
}

TableRow make_row(const Group& group, const std::vector<std::vector<Json>>& column_keys, std::size_t width) {
  TableRow row;
  row.keys = group.keys;
  row.runs = group.records.size();
  for (const LoadedRecord* record : group.records) row.diverged += record->outline.head.status == RunStatus::kDiverged;
  for (const auto& column : column_keys) {
    const auto runs = group.runs.find(column);
    for (std::size_t i = 0; i < width; ++i) {
      std::vector<TableValue> reached;
      if (runs != group.runs.end()) {
        for (const Values& run : runs->second) {
          if (run[i]) reached.push_back(*run[i]);
        }
      }
      row.values.emplace_back();
      if (!reached.empty()) row.values.back() = mean_of(reached);
    }
  }
  return row;
}

void add_columns(Table& table, const std::vector<std::vector<Json>>& column_keys, std::vector<ValueSpec> specs,
                 std::optional<std::size_t> average_after) {
  if (average_after)
    specs.insert(specs.begin() + static_cast<std::ptrdiff_t>(*average_after), {kAverage, {}, "", true, true});
  for (const auto& column : column_keys) {
    std::string prefix;
    for (const Json& key : column) prefix += cat(prefix.empty() ? "" : " ", key.is_null() ? "-" : plain_text(key));
    for (const ValueSpec& value : specs) {
      const bool alone = specs.size() == 1 && !prefix.empty();
      TableColumn added{alone            ? prefix
                        : prefix.empty() ? value.name
                                         : cat(prefix, " ", value.name),
                        value.share ? "%" : "", value.higher_is_better};
      added.is_number = !value.number.empty();
      added.has_best = !added.is_number || has(kLessIsBetter, value.number);
      table.columns.push_back(std::move(added));
    }
  }
  if (specs.size() == 1 && !table.columns.empty() && table.columns.front().name != specs.front().name) {
    table.notes.push_back(cat("values: ", specs.front().name, specs.front().share ? ", percent" : ""));
  }
}

/// The order of rows: a source model before its derivatives and more cache before less, or by keys from left to right.
void sort_groups(std::vector<Group>& groups, const TableSpec& spec) {
  const auto place = [&](const char* name) {
    return static_cast<std::size_t>(std::find(spec.rows.begin(), spec.rows.end(), name) - spec.rows.begin());
  };
  const std::size_t model = place("model"), saved = place("saved_percent"), stage = place("stage");
  const bool as_paper = spec.source && std::max({model, saved, stage}) < spec.rows.size();
  std::stable_sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
    if (!as_paper) return before(a.keys, b.keys);
    const auto key = [&](const Group& group) {
      return std::vector<Json>{group.keys[model], group.keys[saved], group.keys[stage] == "source" ? 0 : 1};
    };
    return before(key(a), key(b));
  });
}

void sort_rows(Table& table, const std::string& sort) {
  const bool falling = sort.ends_with(":desc");
  const std::string name = falling ? sort.substr(0, sort.size() - 5) : sort;
  std::vector<std::string> known;
  for (const TableKey& key : table.keys) known.push_back(key.name);
  for (const TableColumn& column : table.columns) known.push_back(column.name);
  const auto found = std::find(known.begin(), known.end(), name);
  if (found == known.end()) throw ConfigError(cat("--sort: ", unknown_name(name, known)));
  const auto index = static_cast<std::size_t>(found - known.begin());
  const auto value = [&](const TableRow& row) {
    if (index < table.keys.size()) return row.keys[index];
    const auto& cell = row.values[index - table.keys.size()];
    return cell ? Json(cell->mean) : Json();
  };
  std::stable_sort(table.rows.begin(), table.rows.end(), [&](const TableRow& a, const TableRow& b) {
    return falling ? before(value(b), value(a)) : before(value(a), value(b));
  });
}

/// Keys without a value in any row say nothing.
void drop_empty_keys(Table& table) {
  for (std::size_t i = table.keys.size(); i-- > 0;) {
    const bool empty = std::all_of(table.rows.begin(), table.rows.end(),
                                   [&](const TableRow& row) { return row.keys[i].is_null() || row.keys[i] == ""; });
    if (!empty || (table.keys[i].name != "settings" && table.keys[i].name != "cache")) continue;
    table.keys.erase(table.keys.begin() + static_cast<std::ptrdiff_t>(i));
    for (TableRow& row : table.rows) row.keys.erase(row.keys.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

std::string heading_of(const std::string& name) {
  if (name == "rope") return "RoPE";
  if (name == "low_rank") return "low rank";
  if (name == "saved_percent") return "saved %";
  return name;
}

void check_keys(const RecordSet& set, const TableSpec& spec) {
  for (const auto& [names, option] : {std::pair{&spec.rows, "--row"}, std::pair{&spec.columns, "--column"}}) {
    for (const std::string& name : *names) {
      if (name != "task" && !set.records.empty()) check_dimension(set, name, option);
    }
  }
  if (!spec.stage.empty() && spec.stage != "all") {
    std::vector<std::string> known = {"source", "converted", "fine_tuned"};
    for (const LoadedRecord& record : set.records) {
      for (const std::string& stage : stages_of(record.outline)) {
        if (!has(known, stage)) known.push_back(stage);
      }
    }
    if (!has(known, spec.stage)) throw ConfigError(cat("--stage: ", unknown_name(spec.stage, known)));
  }
}

void check_metrics(const std::vector<Item>& items, const std::vector<ValueSpec>& specs, const TableSpec& spec) {
  if (!specs.empty()) return;
  std::vector<std::string> known;
  for (const Item& item : items) {
    for (const ScoreOutline& score : item.observation.record->outline.evaluation) {
      if (!has(known, score.metric)) known.push_back(score.metric);
    }
  }
  throw DataError(cat("no record has a score of ", join(spec.metrics), known.empty() ? "" : "; known: ", join(known)));
}

}  // namespace

bool fits(const std::string& value, const std::string& pattern) {
  const std::size_t star = pattern.find('*');
  if (star == std::string::npos) return value == pattern;
  if (value.compare(0, star, pattern, 0, star) != 0) return false;
  const std::string rest = pattern.substr(star + 1);
  for (std::size_t at = star; at <= value.size(); ++at) {
    if (fits(value.substr(at), rest)) return true;
  }
  return false;
}

Table make_pivot(const RecordSet& set, const TableSpec& spec) {
  Table table;
  table.title = spec.title;
  check_keys(set, spec);
  const auto records = usable(set, table);
  const std::vector<Item> items = collect_items(set, records, spec);
  std::vector<ValueSpec> specs = value_specs(items, spec);
  std::erase_if(specs, [&](const ValueSpec& value) {
    return std::none_of(items.begin(), items.end(),
                        [&](const Item& item) { return value_of(item, value).has_value(); });
  });
  if (spec.paper.empty()) check_metrics(items, specs, spec);
  const auto shares = static_cast<std::size_t>(
      std::count_if(specs.begin(), specs.end(), [](const ValueSpec& value) { return value.share; }));
  std::optional<std::size_t> average_after;
  const bool in_front = std::all_of(specs.begin(), specs.begin() + static_cast<std::ptrdiff_t>(shares),
                                    [](const ValueSpec& v) { return v.share; });
  if (spec.average && shares > 0 && in_front) average_after = shares;

  std::vector<Group> groups = collect_groups(items, spec, specs, average_after);
  sort_groups(groups, spec);
  std::set<std::vector<Json>, KeyOrder> columns;
  for (const Group& group : groups) {
    for (const auto& [column, runs] : group.runs) columns.insert(column);
  }
  std::vector<std::vector<Json>> column_keys(columns.begin(), columns.end());
  if (column_keys.empty()) column_keys.emplace_back();
  add_columns(table, column_keys, specs, average_after);
  for (const std::string& name : spec.rows) table.keys.push_back({name, heading_of(name), false});
  std::vector<Observation> examples;
  for (const Group& group : groups) {
    table.rows.push_back(make_row(group, column_keys, specs.size() + (average_after ? 1 : 0)));
    examples.push_back(group.example->observation);
  }
  for (std::size_t i = 0; i < table.keys.size(); ++i) {
    table.keys[i].number =
        !table.rows.empty() && std::all_of(table.rows.begin(), table.rows.end(), [&](const TableRow& row) {
          return row.keys[i].is_number() || row.keys[i].is_null();
        });
  }
  std::vector<bool> candidates;
  for (const Observation& each : examples) candidates.push_back(!spec.source || dimension(each, "method") != "none");
  mark_best(table, [&](const TableRow& row) {
    return static_cast<bool>(candidates[static_cast<std::size_t>(&row - table.rows.data())]);
  });
  if (!spec.separate_configs) {
    if (const auto paths = mixed_paths(groups); !paths.empty()) {
      table.notes.push_back("a cell averages over runs that differ in: " + join({paths.begin(), paths.end()}));
    }
  }
  if (!spec.paper.empty()) add_paper(table, examples, spec.paper);
  if (!spec.sort.empty()) sort_rows(table, spec.sort);
  drop_empty_keys(table);
  return table;
}

}  // namespace mla
