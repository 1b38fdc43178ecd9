// Comparisons by a config path as text and as JSON.
#include <fmt/format.h>

#include "analysis/compare/compare_by.h"
#include "analysis/tables/text_table.h"
#include "core/base/error.h"

namespace mla {
namespace {

std::string interval(const std::optional<double>& low, const std::optional<double>& high) {
  return low && high ? fmt::format("{:+.4g} … {:+.4g}", *low, *high) : std::string("-");
}

std::string probability(const std::optional<double>& p) {
  if (!p) return "";
  return *p < 1e-4 ? fmt::format("{:.1e}", *p) : fmt::format("{:.4f}", *p);
}

}  // namespace

void print_pairs(const CompareByReport& report, const CompareByOptions& options, std::size_t limit, std::ostream& out) {
  std::vector<std::vector<std::string>> lines = {{"task", "metric", "from", "to", "difference", "interval", "p",
                                                  "p Holm", "effect", "interval of it", "cells", "items", "groups"}};
  for (const PairedValues& pair : report.pairs) {
    if (lines.size() > limit) break;
    lines.push_back({pair.task, pair.metric, pair.before, pair.after, fmt::format("{:+.4g}", pair.difference),
                     interval(pair.low, pair.high), probability(pair.p_value), probability(pair.p_holm),
                     pair.effect ? fmt::format("{:+.3g}", *pair.effect) : "",
                     interval(pair.effect_low, pair.effect_high), cat(pair.cells),
                     pair.items > 0 ? cat(pair.items) : "none", pair.groups != pair.items ? cat(pair.groups) : ""});
  }
  print_text_table(lines, 4, out);
  if (report.pairs.size() > limit)
    out << "… " << report.pairs.size() - limit << " more; --max-lines shows more, --json all\n";
  out << fmt::format(
      "difference: over pairs of cells that differ in {} alone, and over their items; intervals of {:g} % by Student's "
      "t, had both cells and items been others\neffect: the items' mean difference in units of its standard deviation "
      "(Cohen's d of pairs)\np Holm: corrected for {} tests (Holm 1979)\n",
      options.by, 100 * options.confidence, report.tests);
}

Json compare_by_json(const CompareByReport& report, const CompareByOptions& options) {
  const auto optional = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
  Json pairs = Json::array();
  for (const PairedValues& pair : report.pairs) {
    pairs.push_back({{"task", pair.task},
                     {"metric", pair.metric},
                     {"before", pair.before},
                     {"after", pair.after},
                     {"mean_before", pair.mean_before},
                     {"mean_after", pair.mean_after},
                     {"higher_is_better", pair.higher_is_better},
                     {"difference", pair.difference},
                     {"low", optional(pair.low)},
                     {"high", optional(pair.high)},
                     {"p_value", optional(pair.p_value)},
                     {"p_holm", optional(pair.p_holm)},
                     {"effect", optional(pair.effect)},
                     {"effect_low", optional(pair.effect_low)},
                     {"effect_high", optional(pair.effect_high)},
                     {"cells", pair.cells},
                     {"items", pair.items},
                     {"groups", pair.groups},
                     {"unpaired_because", pair.unpaired_because.empty() ? Json() : Json(pair.unpaired_because)}});
  }
  Json best = Json::object();
  for (std::size_t column = 0; column < report.table.columns.size(); ++column) {
    Json& one = best[report.table.columns[column].name] = {{"best", nullptr}, {"indistinguishable", Json::array()}};
    for (const TableRow& row : report.table.rows) {
      const auto& value = row.values[column];
      if (value && value->best) one["best"] = row.keys.front();
      if (value && value->tied) one["indistinguishable"].push_back(row.keys.front());
    }
  }
  return {{"by", options.by}, {"confidence", options.confidence}, {"tests", report.tests},      {"comparisons", pairs},
          {"best", best},     {"table", to_json(report.table)},   {"notes", report.table.notes}};
}

}  // namespace mla
