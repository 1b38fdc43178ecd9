#include "analysis/pivot/pivot.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "analysis/pivot/groups.h"
#include "analysis/pivot/items.h"
#include "analysis/pivot/key_order.h"
#include "analysis/pivot/mean.h"
#include "analysis/pivot/values.h"
#include "analysis/records/dimension.h"
#include "analysis/records/mixed_programs.h"
#include "analysis/records/usable_records.h"
#include "analysis/tables/paper.h"
#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kAverage = "average";
const std::vector<std::string> kLessIsBetter = {"bytes_per_token", "cached_elements", "joint_error",
                                                "key_error",       "value_error",     "seconds"};

/// What one column per column key shows, and how its errors are made.
struct ColumnPlan {
  std::vector<WeightedPart> parts;  ///< scores that it is a mean of; none: a number of the run
};

std::vector<ColumnPlan> plan_columns(const std::vector<ValueSpec>& specs, std::optional<std::size_t> average_after) {
  std::vector<ColumnPlan> plans;
  for (const ValueSpec& value : specs)
    plans.push_back({value.number.empty() ? parts_of(value) : std::vector<WeightedPart>()});
  if (average_after)
    plans.insert(plans.begin() + static_cast<std::ptrdiff_t>(*average_after), ColumnPlan{parts_of_average(specs)});
  return plans;
}

/// Makes rows of groups; with `both`, errors are those of other seeds and other samples where the records have the
/// samples.
class RowMaker {
 public:
  RowMaker(std::vector<std::vector<Json>> column_keys, std::vector<ColumnPlan> plans, bool both)
      : column_keys_(std::move(column_keys)), plans_(std::move(plans)), both_(both) {}

  TableRow make(const Group& group) {
    TableRow row;
    row.keys = group.keys;
    row.runs = group.records.size();
    for (const LoadedRecord* record : group.records) {
      row.diverged += record->outline.head.status == RunStatus::kDiverged;
    }
    for (const auto& column : column_keys_) {
      const auto runs = group.runs.find(column);
      for (std::size_t i = 0; i < plans_.size(); ++i) {
        row.values.emplace_back();
        if (runs != group.runs.end()) row.values.back() = value_at(runs->second, i);
      }
    }
    return row;
  }

  /// Values of several runs whose errors are of other seeds alone.
  std::size_t without_samples() const { return without_samples_; }

 private:
  std::optional<TableValue> value_at(const std::vector<Run>& runs, std::size_t i) {
    std::vector<TableValue> reached;
    std::vector<Item> items;
    for (const Run& run : runs) {
      if (!run.values[i]) continue;
      reached.push_back(*run.values[i]);
      items.push_back(*run.item);
    }
    if (reached.empty()) return {};
    TableValue mean = mean_of(reached);
    const bool wanted = both_ && reached.size() > 1 && !plans_[i].parts.empty();
    if (wanted && !combine_errors(items, plans_[i].parts, mean)) ++without_samples_;
    return mean;
  }

  std::vector<std::vector<Json>> column_keys_;
  std::vector<ColumnPlan> plans_;
  bool both_;
  std::size_t without_samples_ = 0;
};

/// Rows that have none of the numbers are of records that the table is not about. Where no row has one, all stay.
void drop_empty_rows(Table& table, std::vector<Observation>& examples) {
  const auto is_empty = [](const TableRow& row) {
    return std::none_of(row.values.begin(), row.values.end(), [](const auto& value) { return value.has_value(); });
  };
  if (std::all_of(table.rows.begin(), table.rows.end(), is_empty)) return;
  std::size_t dropped = 0;
  for (std::size_t i = table.rows.size(); i-- > 0;) {
    if (!is_empty(table.rows[i])) continue;
    dropped += table.rows[i].runs;
    table.rows.erase(table.rows.begin() + static_cast<std::ptrdiff_t>(i));
    examples.erase(examples.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (dropped > 0) table.notes.push_back(cat(dropped, " records have none of these numbers, and no row"));
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
      added.has_best = !added.is_number || contains(kLessIsBetter, value.number);
      table.columns.push_back(std::move(added));
    }
  }
  if (specs.size() == 1 && !table.columns.empty() && table.columns.front().name != specs.front().name) {
    table.notes.push_back(cat("values: ", specs.front().name, specs.front().share ? ", percent" : ""));
  }
}

/// The records behind a table, each once.
std::vector<const LoadedRecord*> records_of(const std::vector<Group>& groups) {
  std::set<const LoadedRecord*> records;
  for (const Group& group : groups) records.insert(group.records.begin(), group.records.end());
  return {records.begin(), records.end()};
}

/// Rows that stay together: ours, and the paper's with the differences from it that follow. A row of the paper's that
/// is beside none of ours stands alone.
std::vector<std::vector<TableRow>> row_blocks(std::vector<TableRow> rows) {
  std::vector<std::vector<TableRow>> blocks;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool compared = i + 1 < rows.size() && rows[i + 1].origin == RowOrigin::kDifference;
    const bool follows = rows[i].origin == RowOrigin::kDifference || (rows[i].origin == RowOrigin::kPaper && compared);
    if (!follows || blocks.empty()) blocks.emplace_back();
    blocks.back().push_back(std::move(rows[i]));
  }
  return blocks;
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
  auto blocks = row_blocks(std::move(table.rows));
  std::stable_sort(blocks.begin(), blocks.end(), [&](const auto& a, const auto& b) {
    return falling ? before(value(b.front()), value(a.front())) : before(value(a.front()), value(b.front()));
  });
  table.rows.clear();
  for (auto& block : blocks) {
    for (TableRow& row : block) table.rows.push_back(std::move(row));
  }
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
  if (name == "saved_percent" || name == "nominal_saved_percent") return "saved %";
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
        if (!contains(known, stage)) known.push_back(stage);
      }
    }
    if (!contains(known, spec.stage)) throw ConfigError(cat("--stage: ", unknown_name(spec.stage, known)));
  }
}

void check_metrics(const RecordSet& set, const std::vector<Item>& items, const std::vector<ValueSpec>& specs,
                   const TableSpec& spec) {
  if (!specs.empty()) return;
  if (set.records.empty()) {
    const auto skipped = skipped_notes(set);
    throw DataError(
        cat("there is no record",
            skipped.empty() ? "" : cat(": ", skipped.size(), " files left out, the first is ", skipped.front())));
  }
  std::vector<std::string> known;
  for (const Item& item : items) {
    for (const ScoreOutline& score : item.observation.record->outline.evaluation) {
      if (!contains(known, score.metric)) known.push_back(score.metric);
    }
  }
  throw DataError(cat("no record has a score of ", join(spec.metrics), known.empty() ? "" : "; known: ", join(known)));
}

}  // namespace

Table make_pivot(const RecordSet& set, const TableSpec& spec) {
  Table table;
  table.title = spec.title;
  check_keys(set, spec);
  if (spec.errors != "runs" && spec.errors != "both")
    throw ConfigError(cat("errors: ", unknown_name(spec.errors, {"runs", "both"})));
  UsableRecords usable = usable_records(set);
  table.left_out = std::move(usable.left_out);
  const std::vector<Item> items = collect_items(set, usable.records, spec);
  std::vector<ValueSpec> specs = value_specs(items, spec);
  std::erase_if(specs, [&](const ValueSpec& value) {
    return std::none_of(items.begin(), items.end(),
                        [&](const Item& item) { return value_of(item, value).has_value(); });
  });
  if (spec.paper.empty()) check_metrics(set, items, specs, spec);
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
  table.both_errors = spec.errors == "both";
  RowMaker maker(column_keys, plan_columns(specs, average_after), table.both_errors);
  for (const Group& group : groups) {
    table.rows.push_back(maker.make(group));
    examples.push_back(group.example->observation);
  }
  if (maker.without_samples() > 0) {
    table.notes.push_back(cat(maker.without_samples(),
                              " values have no samples that are alike in all runs: their errors are over seeds alone"));
  }
  drop_empty_rows(table, examples);
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
  if (std::string mixed = mixed_programs(records_of(groups)); !mixed.empty()) table.notes.push_back(std::move(mixed));
  if (!spec.paper.empty()) add_paper(table, examples, spec.paper, spec.paper_model);
  if (!spec.sort.empty()) sort_rows(table, spec.sort);
  drop_empty_keys(table);
  return table;
}

}  // namespace mla
