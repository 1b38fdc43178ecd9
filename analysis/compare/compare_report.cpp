// Comparisons as text and as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/compare/compare.h"
#include "analysis/tables/text_table.h"
#include "core/base/error.h"

namespace mla {
namespace {

const char* verdict_name(Verdict verdict) {
  constexpr const char* kNames[] = {"worse", "unclear", "same", "better"};
  return kNames[static_cast<int>(verdict)];
}

std::size_t count_of(const ComparisonReport& report, Verdict verdict) {
  return static_cast<std::size_t>(std::count_if(report.comparisons.begin(), report.comparisons.end(),
                                                [&](const Comparison& each) { return each.verdict == verdict; }));
}

std::string interval_text(const Comparison& each) {
  return each.low ? fmt::format("{:+.4g} … {:+.4g}", *each.low, *each.high) : std::string("-");
}

std::string p_text(const std::optional<double>& p) {
  if (!p) return "";
  return *p < 1e-4 ? fmt::format("{:.1e}", *p) : fmt::format("{:.4f}", *p);
}

/// Why scores are unpaired, with how many.
std::map<std::string, std::size_t> reasons_of(const ComparisonReport& report) {
  std::map<std::string, std::size_t> reasons;
  for (const Comparison& each : report.comparisons) {
    if (!each.unpaired_because.empty()) ++reasons[each.unpaired_because];
  }
  return reasons;
}

}  // namespace

std::size_t ComparisonReport::tests() const {
  return static_cast<std::size_t>(std::count_if(comparisons.begin(), comparisons.end(),
                                                [](const Comparison& each) { return each.p_holm.has_value(); }));
}

std::size_t ComparisonReport::surely(Verdict verdict, double confidence) const {
  return static_cast<std::size_t>(std::count_if(comparisons.begin(), comparisons.end(), [&](const Comparison& each) {
    if (each.is_lost()) return verdict == Verdict::kWorse;
    const bool better = (each.difference > 0) == each.higher_is_better;
    return each.p_holm && *each.p_holm <= 1 - confidence && better == (verdict == Verdict::kBetter);
  }));
}

void print_comparison(const ComparisonReport& report, const CompareOptions& options, std::size_t limit,
                      std::ostream& out) {
  std::vector<std::vector<std::string>> lines = {{"verdict", "cell", "stage", "task", "metric", "before", "after",
                                                  "difference", "interval", "p", "p Holm", "samples", "groups"}};
  for (const Comparison& each : report.comparisons) {
    if (lines.size() > limit) break;
    lines.push_back({verdict_name(each.verdict), each.cell, each.stage, each.task, each.metric,
                     fmt::format("{:.5g}", each.before), fmt::format("{:.5g}", each.after),
                     fmt::format("{:+.4g}", each.difference), interval_text(each), p_text(each.p_value),
                     p_text(each.p_holm), each.samples > 0 ? cat(each.samples) : "unpaired",
                     each.units != each.samples ? cat(each.units) : ""});
  }
  print_text_table(lines, 5, out);
  if (report.comparisons.size() > limit)
    out << "… " << report.comparisons.size() - limit << " more; --max-lines shows more, --json all\n";
  out << report.cells.size() << " cells in both: " << count_of(report, Verdict::kWorse) << " scores worse, "
      << count_of(report, Verdict::kBetter) << " better, " << count_of(report, Verdict::kUnclear) << " unclear, "
      << count_of(report, Verdict::kSame) << " the same\n";
  out << fmt::format(
      "intervals of {:g} % and p: paired bootstrap over items, or groups of them that depend on each other ({} "
      "resamples); unpaired: from standard errors, as if the two had nothing in common\n",
      100 * options.confidence, options.resamples);
  for (const auto& [why, count] : reasons_of(report)) out << "unpaired: " << count << " scores: " << why << "\n";
  out << fmt::format("p Holm: corrected for {} tests (Holm 1979): at {:g} % certainty {} are worse, {} better\n",
                     report.tests(), 100 * options.confidence, report.surely(Verdict::kWorse, options.confidence),
                     report.surely(Verdict::kBetter, options.confidence));
  for (const std::string& line : report.provenance) out << "provenance: " << line << "\n";
  std::map<std::string, std::size_t> differences;
  for (const MatchedCell& cell : report.cells) {
    for (const std::string& line : cell.config_differences) ++differences[line];
  }
  for (const auto& [line, count] : differences) out << "config: " << line << " (" << count << " cells)\n";
  for (const std::string& cell : report.only_before) out << "only before: " << cell << "\n";
  for (const std::string& cell : report.only_after) out << "only after: " << cell << "\n";
  for (const std::string& note : report.notes) out << note << "\n";
}

Json comparison_json(const ComparisonReport& report, const CompareOptions& options) {
  Json rows = Json::array(), cells = Json::array();
  const auto optional = [](const std::optional<double>& value) { return value ? Json(*value) : Json(); };
  for (const Comparison& each : report.comparisons) {
    rows.push_back({{"verdict", verdict_name(each.verdict)},
                    {"cell", each.cell},
                    {"stage", each.stage},
                    {"task", each.task},
                    {"metric", each.metric},
                    {"before", each.before},
                    {"after", each.after},
                    {"difference", each.difference},
                    {"low", optional(each.low)},
                    {"high", optional(each.high)},
                    {"p_value", optional(each.p_value)},
                    {"p_holm", optional(each.p_holm)},
                    {"paired", each.samples > 0},
                    {"unpaired_because", each.unpaired_because.empty() ? Json() : Json(each.unpaired_because)},
                    {"samples", each.samples},
                    {"groups", each.units},
                    {"higher_is_better", each.higher_is_better}});
  }
  for (const MatchedCell& cell : report.cells) {
    cells.push_back({{"before", cell.before->path.string()},
                     {"after", cell.after->path.string()},
                     {"config_differences", cell.config_differences}});
  }
  return {{"worse", count_of(report, Verdict::kWorse)},
          {"better", count_of(report, Verdict::kBetter)},
          {"unclear", count_of(report, Verdict::kUnclear)},
          {"same", count_of(report, Verdict::kSame)},
          {"tests", report.tests()},
          {"worse_after_holm", report.surely(Verdict::kWorse, options.confidence)},
          {"better_after_holm", report.surely(Verdict::kBetter, options.confidence)},
          {"comparisons", rows},
          {"cells", cells},
          {"only_before", report.only_before},
          {"only_after", report.only_after},
          {"provenance", report.provenance},
          {"notes", report.notes}};
}

}  // namespace mla
