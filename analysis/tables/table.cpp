#include "analysis/tables/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr double kFewDecimals = 10;  ///< numbers from here on are shown with one decimal

std::string value_text(const std::optional<TableValue>& value, const TableColumn& column, RowOrigin origin) {
  if (!value) return "";
  if (column.is_number)
    return fmt::format(fmt::runtime(origin == RowOrigin::kDifference ? "{:+.6g}" : "{:.6g}"), value->mean);
  if (origin == RowOrigin::kDifference) return fmt::format("{:+.1f}", value->mean);
  std::string text = short_number(value->mean);
  if (origin == RowOrigin::kPaper) text = fmt::format("{:.2f}", value->mean);
  const bool few = std::abs(value->mean) >= kFewDecimals;
  if (value->error) text += few ? fmt::format(" ±{:.1f}", *value->error) : fmt::format(" ±{:.3f}", *value->error);
  return value->tied ? text + " ~" : text;
}

std::string key_text(const Json& value, bool number) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (number && value.is_number_float()) return fmt::format("{:.2f}", value.get<double>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json or_null(const std::optional<double>& number) { return number ? Json(*number) : Json(); }

}  // namespace

std::string origin_name(RowOrigin origin) {
  return origin == RowOrigin::kOurs ? "ours" : origin == RowOrigin::kPaper ? "paper" : "difference";
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  return std::abs(value) < kFewDecimals ? fmt::format("{:.3f}", value) : fmt::format("{:.1f}", value);
}

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

std::vector<std::string> headings(const Table& table) {
  std::vector<std::string> texts;
  if (table.has_paper) texts.emplace_back("numbers");
  for (const TableKey& key : table.keys) texts.push_back(key.heading);
  texts.emplace_back("runs");
  for (const TableColumn& column : table.columns)
    texts.push_back(column.unit.empty() ? column.name : cat(column.name, " ", column.unit));
  return texts;
}

std::vector<std::string> row_texts(const Table& table, const TableRow& row) {
  std::vector<std::string> texts;
  if (table.has_paper) texts.push_back(origin_name(row.origin));
  for (std::size_t i = 0; i < row.keys.size(); ++i) texts.push_back(key_text(row.keys[i], table.keys[i].number));
  texts.push_back(row.origin != RowOrigin::kOurs ? ""
                  : row.diverged > 0             ? fmt::format("{} ({} diverged)", row.runs, row.diverged)
                                                 : fmt::format("{}", row.runs));
  for (std::size_t i = 0; i < row.values.size(); ++i)
    texts.push_back(value_text(row.values[i], table.columns[i], row.origin));
  return texts;
}

std::vector<std::string> footnotes(const Table& table) {
  std::vector<std::string> lines;
  bool errors = false;
  for (const TableRow& row : table.rows) {
    for (std::size_t i = 0; i < row.values.size(); ++i)
      errors = errors || (row.values[i] && row.values[i]->error && !table.columns[i].is_number);
  }
  if (errors) {
    lines.emplace_back(
        table.both_errors
            ? "± standard error: had the seeds and the items been others, or the items alone where runs do not differ"
            : "± standard error: over runs that differ in their seeds, or of the items where runs do not differ");
  }
  lines.insert(lines.end(), table.notes.begin(), table.notes.end());
  for (const std::string& note : table.left_out) lines.push_back("left out: " + note);
  if (!table.left_out.empty()) lines.push_back(cat(table.left_out.size(), " left out"));
  return lines;
}

Json to_json(const Table& table) {
  Json columns = Json::array(), rows = Json::array();
  for (const TableColumn& column : table.columns) columns.push_back(column.name);
  for (const TableRow& row : table.rows) {
    Json json = Json::object();
    for (std::size_t i = 0; i < row.keys.size(); ++i) json[table.keys[i].name] = row.keys[i];
    json["runs"] = row.runs;
    json["diverged"] = row.diverged;
    if (table.has_paper) json["numbers"] = origin_name(row.origin);
    Json values = Json::object();
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      const auto& value = row.values[i];
      if (!value) continue;
      Json& cell = values[table.columns[i].name];
      cell = {{"mean", value->mean}, {"standard_error", or_null(value->error)}};
      if (row.origin != RowOrigin::kOurs) continue;
      cell["standard_error_over_runs"] = or_null(value->run_error);
      cell["standard_error_over_samples"] = or_null(value->sample_error);
      cell["runs"] = value->runs;
      cell["best"] = value->best;
      if (table.has_ties) cell["indistinguishable_from_best"] = value->best || value->tied;
    }
    json["values"] = values;
    rows.push_back(std::move(json));
  }
  return {{"title", table.title}, {"columns", columns},         {"rows", rows},
          {"notes", table.notes}, {"left_out", table.left_out}, {"left_out_count", table.left_out.size()}};
}

}  // namespace mla
