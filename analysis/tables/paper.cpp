#include "analysis/tables/paper.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "mla_report_data.h"

namespace mla {
namespace {

constexpr double kSamePercent = 0.05;

/// Names of models and strategies are compared without case: folders are named as their owners like.
bool same_key(const Json& ours, const Json& paper) {
  if (ours.is_number() && paper.is_number()) return std::abs(ours.get<double>() - paper.get<double>()) < kSamePercent;
  if (!ours.is_string() || !paper.is_string()) return ours == paper;
  const std::string a = ours, b = paper;
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// What the paper stores as BF16 is what a cache without a codec holds, whatever the number type.
bool same_at(const std::string& key, const Observation& ours, const Json& paper) {
  const Json value = dimension(ours, key);
  return same_key(key == "precision" && value == "as computed" ? Json("BF16") : value, paper);
}

/// A row of the paper in the shape of `table`: {"model": …, …, "values": {"mmlu": 29.8, …}}.
TableRow paper_row(const Table& table, const Json& facts) {
  TableRow row;
  row.origin = RowOrigin::kPaper;
  for (const TableKey& key : table.keys) {
    const Json value = facts.value(key.name, Json());
    row.keys.push_back(value.is_number() && key.name.ends_with("saved_percent") ? Json(value.get<double>()) : value);
  }
  const Json values = facts.value("values", Json::object());
  for (const TableColumn& column : table.columns) {
    row.values.emplace_back();
    if (const auto found = values.find(column.name); found != values.end())
      row.values.back() = TableValue{*found, {}, {}, {}, 0, false};
  }
  return row;
}

TableRow difference(const TableRow& ours, const TableRow& paper) {
  TableRow row;
  row.origin = RowOrigin::kDifference;
  row.keys = ours.keys;
  for (std::size_t i = 0; i < ours.values.size(); ++i) {
    row.values.emplace_back();
    if (ours.values[i] && paper.values[i])
      row.values.back() = TableValue{ours.values[i]->mean - paper.values[i]->mean, {}, {}, {}, 0, false};
  }
  return row;
}

/// Adds the columns that the paper has and no record.
void add_missing_columns(Table& table, const Json& paper) {
  for (const Json& name : paper.at("columns")) {
    const bool there = std::any_of(table.columns.begin(), table.columns.end(),
                                   [&](const TableColumn& column) { return column.name == name; });
    if (there) continue;
    table.columns.push_back({name, paper.value("unit", ""), true});
    table.columns.back().is_number = table.columns.back().unit.empty();
    for (TableRow& row : table.rows) row.values.emplace_back();
  }
}

bool measured_any(const Table& table, const Json& paper) {
  return std::any_of(table.columns.begin(), table.columns.end(), [&](const TableColumn& column) {
    const Json& names = paper.at("columns");
    return column.name != "average" && std::find(names.begin(), names.end(), column.name) != names.end();
  });
}

/// An average over other tasks than the paper's cannot be compared with its average.
void check_average(Table& table, const Json& paper) {
  std::vector<std::string> ours, theirs;
  for (const TableColumn& column : table.columns) {
    if (column.unit == "%" && column.name != "average") ours.push_back(column.name);
  }
  for (const Json& name : paper.at("columns")) {
    if (name != "average") theirs.push_back(name);
  }
  std::sort(ours.begin(), ours.end());
  std::sort(theirs.begin(), theirs.end());
  if (ours == theirs || paper.value("unit", "") != "%") return;
  for (TableColumn& column : table.columns) {
    if (column.name != "average") continue;
    column.name = "average of these";
    table.notes.push_back("the average is over the tasks shown, the paper's over " + join(theirs));
  }
}

/// A table of the paper's with the rows of one model; of all where `model` is empty.
Json of_model(Json paper, const std::string& model) {
  if (model.empty()) return paper;
  std::vector<std::string> known;
  Json rows = Json::array();
  for (const Json& row : paper.at("rows")) {
    const std::string name = row.value("model", "");
    if (std::find(known.begin(), known.end(), name) == known.end()) known.push_back(name);
    if (same_key(name, model)) rows.push_back(row);
  }
  if (rows.empty()) throw ConfigError(cat("--paper-model: ", unknown_name(model, known)));
  paper["rows"] = std::move(rows);
  return paper;
}

}  // namespace

const Json& paper_tables() {
  static const Json tables = parse_json(kPaperTables, "data/paper/tables.json");
  return tables;
}

void add_paper(Table& table, const std::vector<Observation>& examples, const std::string& name,
               const std::string& model) {
  const Json& all = paper_tables().at("tables");
  if (!all.contains(name)) {
    std::vector<std::string> known;
    for (const auto& [key, unused] : all.items()) known.push_back(key);
    throw ConfigError(cat("paper: ", unknown_name(name, known)));
  }
  const Json paper = of_model(all.at(name), model);
  const bool measured = measured_any(table, paper);
  if (!table.rows.empty() && !measured) {
    table.notes.push_back(cat("beside the paper's ", paper.at("title").get<std::string>(), ", whose ",
                              join(paper.at("columns").get<std::vector<std::string>>()),
                              " no record has: its rows are left out"));
    return;
  }
  if (measured) check_average(table, paper);
  add_missing_columns(table, paper);
  table.has_paper = true;
  std::vector<bool> used(paper.at("rows").size(), false);
  std::vector<TableRow> rows;
  for (std::size_t i = 0; i < table.rows.size(); ++i) {
    rows.push_back(table.rows[i]);
    for (std::size_t j = 0; j < used.size(); ++j) {
      const Json& facts = paper.at("rows")[j];
      const Json& match = paper.at("match");
      if (!std::all_of(match.begin(), match.end(), [&](const Json& key) {
            if (!model.empty() && key == "model") return true;
            return same_at(key, examples[i], facts.value(key.get<std::string>(), Json()));
          }))
        continue;
      used[j] = true;
      rows.push_back(paper_row(table, facts));
      rows.push_back(difference(table.rows[i], rows.back()));
    }
  }
  for (std::size_t j = 0; j < used.size(); ++j) {
    if (!used[j]) rows.push_back(paper_row(table, paper.at("rows")[j]));
  }
  table.rows = std::move(rows);
  table.notes.push_back(
      cat("paper: ", paper_tables().at("source").get<std::string>(), ", ", paper.at("title").get<std::string>()));
}

const std::vector<std::string>& preset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [name, text] : kTablePresets) all.emplace_back(name);
    return all;
  }();
  return names;
}

Json preset(const std::string& name) {
  for (const auto& [key, text] : kTablePresets) {
    if (name == key) return parse_json(text, cat("configs/tables/", name, ".json"));
  }
  throw ConfigError(cat("table: ", unknown_name(name, preset_names())));
}

}  // namespace mla
