#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/results_table.h"

namespace mla {
namespace {

constexpr const char* kHeadings[] = {"model", "RoPE", "low rank", "stage", "runs", "saved %"};
constexpr std::size_t kHeadingCount = std::size(kHeadings);
constexpr double kFewDecimals = 10;  ///< numbers from here on are shown with one decimal

std::string number(double value) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  return std::abs(value) < kFewDecimals ? fmt::format("{:.3f}", value) : fmt::format("{:.1f}", value);
}

std::string text_of(const std::optional<TableValue>& value) {
  if (!value) return "";
  if (!value->error) return number(value->mean);
  const bool few = std::abs(value->mean) >= kFewDecimals;
  return few ? fmt::format("{} ±{:.1f}", number(value->mean), *value->error)
             : fmt::format("{} ±{:.3f}", number(value->mean), *value->error);
}

std::vector<std::string> texts_of(const ResultsTableRow& row) {
  std::vector<std::string> texts = {row.model, row.rope, row.low_rank, row.stage,
                                    row.diverged > 0 ? fmt::format("{} ({} diverged)", row.runs, row.diverged)
                                                     : fmt::format("{}", row.runs),
                                    fmt::format("{:.2f}", row.saving)};
  for (const auto& value : row.values) texts.push_back(text_of(value));
  return texts;
}

/// What a terminal shows of UTF-8.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}

}  // namespace

void print(const ResultsTable& table, std::ostream& out) {
  std::vector<std::vector<std::string>> lines(1, {std::begin(kHeadings), std::end(kHeadings)});
  lines.front().insert(lines.front().end(), table.columns.begin(), table.columns.end());
  for (const ResultsTableRow& row : table.rows) lines.push_back(texts_of(row));
  std::vector<std::size_t> widths(lines.front().size(), 0);
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], width_of(line[i]));
  }
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - width_of(line[i]), ' ');
      const bool left = i + 2 < kHeadingCount;  // names; numbers stand on the right
      text += (i > 0 ? "  " : "") + (left ? line[i] + padding : padding + line[i]);
    }
    out << text.substr(0, text.find_last_not_of(' ') + 1) << "\n";
  }
  out << "± standard error: over runs that differ in their seeds, or of the items where there is one run\n";
  for (const std::string& note : table.notes) out << "left out: " << note << "\n";
}

Json to_json(const ResultsTable& table) {
  Json rows = Json::array();
  for (const ResultsTableRow& row : table.rows) {
    Json values = Json::object();
    for (std::size_t i = 0; i < table.columns.size(); ++i) {
      if (!row.values[i]) continue;
      const auto& error = row.values[i]->error;
      values[table.columns[i]] = {{"mean", row.values[i]->mean}, {"standard_error", error ? Json(*error) : Json(nullptr)}};
    }
    rows.push_back({{"model", row.model}, {"rope", row.rope}, {"low_rank", row.low_rank}, {"stage", row.stage},
                    {"runs", row.runs}, {"diverged", row.diverged}, {"saved_percent", row.saving}, {"values", values}});
  }
  return {{"columns", table.columns}, {"rows", rows}, {"left_out", table.notes}};
}

}  // namespace mla
