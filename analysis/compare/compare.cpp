#include "analysis/compare/compare.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "analysis/compare/compare_score.h"
#include "analysis/records/dimension.h"
#include "analysis/records/mixed_programs.h"
#include "analysis/records/portable_config.h"
#include "analysis/records/usable_records.h"
#include "core/base/error.h"
#include "core/base/statistics.h"

namespace mla {
namespace {

std::string cell_name(const LoadedRecord& record) {
  return cat(record.outline.head.experiment, "/", record.outline.head.cell);
}

/// What tells a cell apart, whatever folder its data lies in: the config without names. Inputs are compared as
/// provenance: two programs may not hash the same ones.
Json own_config(const LoadedRecord& record) {
  Json config = portable_config(record);
  if (config.is_object()) config.erase("input_hashes");
  return config;
}
std::string config_key(const LoadedRecord& record) { return own_config(record).dump(); }

std::vector<std::string> config_differences(const LoadedRecord& before, const LoadedRecord& after) {
  std::set<std::string> paths;
  const Json a = own_config(before), b = own_config(after);
  for (const Json* config : {&a, &b}) {
    for (const std::string& path : leaf_paths(*config)) paths.insert(path);
  }
  std::vector<std::string> differences;
  for (const std::string& path : paths) {
    const Json *x = find_at(a, path), *y = find_at(b, path);
    if (x && y && *x == *y) continue;
    if (!x && !y) continue;
    differences.push_back(cat(path, ": ", x ? brief(*x) : "absent", " -> ", y ? brief(*y) : "absent"));
  }
  return differences;
}

/// Pairs cells of equal config, then the rest by name, then by the name of the cell alone; two single cells in any
/// case.
void match_cells(std::vector<const LoadedRecord*> left, std::vector<const LoadedRecord*> right,
                 ComparisonReport& report) {
  const auto cell_only = [](const LoadedRecord& record) { return record.outline.head.cell; };
  for (const auto& key : {std::function<std::string(const LoadedRecord&)>(config_key),
                          std::function<std::string(const LoadedRecord&)>(cell_name),
                          std::function<std::string(const LoadedRecord&)>(cell_only)}) {
    std::map<std::string, std::vector<const LoadedRecord*>> by_key;
    for (const LoadedRecord* record : right) by_key[key(*record)].push_back(record);
    std::vector<const LoadedRecord*> unmatched;
    for (const LoadedRecord* record : left) {
      auto found = by_key.find(key(*record));
      if (found == by_key.end() || found->second.empty()) {
        unmatched.push_back(record);
        continue;
      }
      const LoadedRecord* partner = found->second.front();
      found->second.erase(found->second.begin());
      right.erase(std::find(right.begin(), right.end(), partner));
      report.cells.push_back({record, partner, config_differences(*record, *partner)});
    }
    left = std::move(unmatched);
  }
  if (report.cells.empty() && left.size() == 1 && right.size() == 1) {
    report.cells.push_back({left[0], right[0], config_differences(*left[0], *right[0])});
    left.clear();
    right.clear();
  }
  for (const LoadedRecord* record : left) report.only_before.push_back(cell_name(*record));
  for (const LoadedRecord* record : right) report.only_after.push_back(cell_name(*record));
}

std::vector<std::string> provenance_differences(const RecordSet& before, const RecordSet& after) {
  const auto values_of = [](const RecordSet& set) {
    std::map<std::string, std::set<std::string>> values;
    for (const LoadedRecord& record : set.records) {
      for (const auto& [name, value] : record.outline.provenance.items()) {
        if (name == "numerics_version") continue;
        if (name != "created" && name != "command_line" && name != "seed") values[name].insert(plain_text(value));
      }
      values["numerics_version"].insert(cat(numerics_version(record.outline)));
    }
    return values;
  };
  const auto shown = [](const std::set<std::string>& values) {
    if (values.empty()) return std::string("absent");
    const std::string first = values.begin()->size() > 80 ? values.begin()->substr(0, 77) + "…" : *values.begin();
    return values.size() == 1 ? first : cat(first, " and ", values.size() - 1, " more");
  };
  std::vector<std::string> differences;
  auto a = values_of(before), b = values_of(after);
  for (const auto& [name, values] : a) {
    if (b[name] != values) differences.push_back(cat(name, ": ", shown(values), " -> ", shown(b[name])));
  }
  return differences;
}

void compare_cell(const MatchedCell& cell, const CompareOptions& options, std::set<std::string>& sources,
                  ComparisonReport& report) {
  RecordSamples samples_before(*cell.before), samples_after(*cell.after);
  const std::string model = plain_text(dimension({cell.before, "source", true}, "model"));
  for (const ScoreOutline& before : cell.before->outline.evaluation) {
    if (before.stage == "source" && !sources.insert(cat(model, "/", before.task, "/", before.metric)).second) continue;
    const auto& scores = cell.after->outline.evaluation;
    const auto after = std::find_if(scores.begin(), scores.end(), [&](const ScoreOutline& score) {
      return score.stage == before.stage && score.task == before.task && score.metric == before.metric;
    });
    if (after == scores.end()) continue;
    const std::string name = before.stage == "source" ? cat("source model ", model) : cell_name(*cell.before);
    report.comparisons.push_back(compare_score(name, before, samples_before, *after, samples_after, options));
  }
}

/// Fills in Holm's p-values. Scores that are the same in every item are no tests: they could not come out otherwise
/// (Tarone, Biometrics 46, 1990).
void correct_for_number(ComparisonReport& report) {
  std::vector<Comparison*> tests;
  std::vector<double> p_values;
  for (Comparison& each : report.comparisons) {
    if (!each.p_value || each.verdict == Verdict::kSame) continue;
    tests.push_back(&each);
    p_values.push_back(*each.p_value);
  }
  const std::vector<double> adjusted = holm_adjusted(p_values);
  for (std::size_t i = 0; i < tests.size(); ++i) tests[i]->p_holm = adjusted[i];
}

}  // namespace

ComparisonReport compare_results(const RecordSet& before, const RecordSet& after, const CompareOptions& options) {
  ComparisonReport report;
  const UsableRecords usable_before = usable_records(before), usable_after = usable_records(after);
  match_cells(usable_before.records, usable_after.records, report);
  report.provenance = provenance_differences(before, after);
  for (const auto& [when, usable] : {std::pair{"before", &usable_before}, {"after", &usable_after}}) {
    for (const std::string& note : usable->left_out) report.notes.push_back("skipped: " + note);
    const std::string mixed = mixed_programs(usable->records);
    if (!mixed.empty()) report.notes.push_back(cat(when, ": ", mixed));
  }
  std::set<std::string> sources;
  for (const MatchedCell& cell : report.cells) {
    try {
      compare_cell(cell, options, sources, report);
    } catch (const DataError& error) {
      report.notes.push_back(cat("skipped: ", error.what()));
    }
  }
  correct_for_number(report);
  std::stable_sort(report.comparisons.begin(), report.comparisons.end(), [](const Comparison& a, const Comparison& b) {
    if (a.verdict != b.verdict) return a.verdict < b.verdict;
    return a.p_value.value_or(1) < b.p_value.value_or(1);
  });
  return report;
}

}  // namespace mla
