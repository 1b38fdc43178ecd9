#include "analysis/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "analysis/dimension.h"
#include "analysis/text_table.h"
#include "core/base/bootstrap.h"
#include "core/base/error.h"

namespace mla {
namespace {

std::string cell_name(const LoadedRecord& record) {
  return cat(record.outline.head.experiment, "/", record.outline.head.cell);
}

/// What tells a cell apart, whatever folder its data lies in: the config without names.
std::string config_key(const LoadedRecord& record) { return config_identity(record.outline.config).dump(); }

bool usable(const LoadedRecord& record) {
  const RunStatus status = record.outline.head.status;
  return status == RunStatus::kComplete || status == RunStatus::kDiverged;
}

std::vector<std::string> config_differences(const Json& before, const Json& after) {
  std::set<std::string> paths;
  const Json a = config_identity(before), b = config_identity(after);
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

/// Pairs cells of equal config, then the rest by name, then by the name of the cell alone.
void match_cells(const RecordSet& before, const RecordSet& after, ComparisonReport& report) {
  std::vector<const LoadedRecord*> left, right;
  for (const LoadedRecord& record : before.records) {
    if (usable(record)) left.push_back(&record);
  }
  for (const LoadedRecord& record : after.records) {
    if (usable(record)) right.push_back(&record);
  }
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
      report.cells.push_back({record, partner, config_differences(record->outline.config, partner->outline.config)});
    }
    left = std::move(unmatched);
  }
  for (const LoadedRecord* record : left) report.only_before.push_back(cell_name(*record));
  for (const LoadedRecord* record : right) report.only_after.push_back(cell_name(*record));
}

std::vector<std::string> provenance_differences(const RecordSet& before, const RecordSet& after) {
  const auto values_of = [](const RecordSet& set) {
    std::map<std::string, std::set<std::string>> values;
    for (const LoadedRecord& record : set.records) {
      for (const auto& [name, value] : record.outline.provenance.items()) {
        if (name != "created" && name != "command_line" && name != "seed") values[name].insert(plain_text(value));
      }
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

Verdict verdict_of(const Comparison& comparison) {
  const bool no_samples_differ = comparison.samples == 0 || (comparison.low == 0.0 && comparison.high == 0.0);
  if (comparison.difference == 0 && no_samples_differ) return Verdict::kSame;
  if (!comparison.low || !comparison.high) return Verdict::kUnclear;
  if (*comparison.low <= 0 && *comparison.high >= 0) return Verdict::kUnclear;
  return (comparison.difference > 0) == comparison.higher_is_better ? Verdict::kBetter : Verdict::kWorse;
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

/// Standard normal quantile of (1 + confidence) / 2, by Newton's steps on erf.
double normal_quantile(double confidence) {
  double z = 1;
  for (int i = 0; i < 50; ++i)
    z -= (std::erf(z / std::sqrt(2.0)) - confidence) / (std::sqrt(2 / M_PI) * std::exp(-z * z / 2));
  return z;
}

/// What is drawn with replacement: samples, or groups of samples that depend on each other, with their sizes as
/// weights.
struct Units {
  std::vector<double> means, weights;
};

/// Groups as the record states them (group_sizes); very many samples without groups are taken in blocks of neighbours,
/// since those of a text depend on each other.
Units units_of(const std::vector<double>& samples, const std::vector<double>& group_sizes) {
  constexpr std::size_t kMostSingle = 2000, kBlocks = 200;
  std::vector<std::size_t> ends;
  double total = 0;
  for (const double size : group_sizes) ends.push_back(static_cast<std::size_t>(total += size));
  if (ends.empty() || ends.back() != samples.size()) {
    ends.clear();
    if (samples.size() <= kMostSingle) return {samples, {}};
    for (std::size_t block = 1; block <= kBlocks; ++block) ends.push_back(block * samples.size() / kBlocks);
  }
  Units units;
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    if (end == begin) continue;
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += samples[i];
    units.means.push_back(sum / static_cast<double>(end - begin));
    units.weights.push_back(static_cast<double>(end - begin));
    begin = end;
  }
  return units;
}

/// Per-sample values of a score in both, and the groups of the first.
struct SamplePair {
  std::vector<double> before, after, group_sizes;
};

void fill_interval(const ScoreOutline& before, const ScoreOutline& after, const SamplePair& samples,
                   const CompareOptions& options, Comparison& result) {
  result.difference = after.value - before.value;
  const bool paired = !samples.before.empty() && samples.before.size() == samples.after.size();
  if (paired && all_finite(samples.before) && all_finite(samples.after)) {
    BootstrapOptions bootstrap;
    bootstrap.confidence = options.confidence;
    bootstrap.resamples = options.resamples;
    bootstrap.seed = options.seed;
    bootstrap.stream = cat("compare ", result.cell, " ", score_group(result.stage, result.task, result.metric));
    const Units a = units_of(samples.before, samples.group_sizes), b = units_of(samples.after, samples.group_sizes);
    const BootstrapInterval interval = paired_bootstrap(a.means, b.means, bootstrap, a.weights);
    result.difference = interval.mean;
    result.low = interval.low;
    result.high = interval.high;
    result.p_value = interval.p_value;
    result.samples = static_cast<std::int64_t>(samples.before.size());
    result.units = interval.samples;
  } else if (before.standard_error && after.standard_error) {
    const double error = std::hypot(*before.standard_error, *after.standard_error);
    const double z = normal_quantile(options.confidence);
    result.low = result.difference - z * error;
    result.high = result.difference + z * error;
    if (error > 0) result.p_value = std::erfc(std::abs(result.difference) / error / std::sqrt(2.0));
  }
}

void compare_cell(const MatchedCell& cell, const CompareOptions& options, std::set<std::string>& sources,
                  ComparisonReport& report) {
  std::vector<std::pair<const ScoreOutline*, const ScoreOutline*>> pairs;
  std::vector<std::string> paths;
  const std::string model = plain_text(dimension({cell.before, "source", true}, "model"));
  for (const ScoreOutline& before : cell.before->outline.evaluation) {
    if (before.stage == "source" && !sources.insert(cat(model, "/", before.task, "/", before.metric)).second) continue;
    const auto& scores = cell.after->outline.evaluation;
    const auto after = std::find_if(scores.begin(), scores.end(), [&](const ScoreOutline& score) {
      return score.stage == before.stage && score.task == before.task && score.metric == before.metric;
    });
    if (after == scores.end()) continue;
    pairs.emplace_back(&before, &*after);
    for (const char* array : {"/per_sample", "/group_sizes"})
      paths.push_back(score_group(before.stage, before.task, before.metric) + array);
  }
  auto a = read_arrays(cell.before->path, paths), b = read_arrays(cell.after->path, paths);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const auto& [before, after] = pairs[i];
    Comparison result;
    result.cell = before->stage == "source" ? cat("source model ", model) : cell_name(*cell.before);
    result.stage = before->stage;
    result.task = before->task;
    result.metric = before->metric;
    result.before = before->value;
    result.after = after->value;
    result.higher_is_better = before->higher_is_better;
    fill_interval(*before, *after, {std::move(a[2 * i]), std::move(b[2 * i]), std::move(a[2 * i + 1])}, options,
                  result);
    result.verdict = verdict_of(result);
    report.comparisons.push_back(std::move(result));
  }
}

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

}  // namespace

ComparisonReport compare_results(const RecordSet& before, const RecordSet& after, const CompareOptions& options) {
  ComparisonReport report;
  match_cells(before, after, report);
  report.provenance = provenance_differences(before, after);
  for (const RecordSet* set : {&before, &after}) {
    for (const std::string& note : skipped_notes(*set)) report.notes.push_back("skipped: " + note);
    for (const LoadedRecord& record : set->records) {
      if (!usable(record))
        report.notes.push_back(cat("skipped: ", record.path.string(), ": ", status_name(record.outline)));
    }
  }
  std::set<std::string> sources;
  for (const MatchedCell& cell : report.cells) {
    try {
      compare_cell(cell, options, sources, report);
    } catch (const DataError& error) {
      report.notes.push_back(cat("skipped: ", error.what()));
    }
  }
  std::stable_sort(report.comparisons.begin(), report.comparisons.end(), [](const Comparison& a, const Comparison& b) {
    if (a.verdict != b.verdict) return a.verdict < b.verdict;
    return a.p_value.value_or(1) < b.p_value.value_or(1);
  });
  return report;
}

void print_comparison(const ComparisonReport& report, const CompareOptions& options, std::size_t limit,
                      std::ostream& out) {
  std::vector<std::vector<std::string>> lines = {{"verdict", "cell", "stage", "task", "metric", "before", "after",
                                                  "difference", "interval", "p", "samples", "groups"}};
  for (const Comparison& each : report.comparisons) {
    if (lines.size() > limit) break;
    lines.push_back({verdict_name(each.verdict), each.cell, each.stage, each.task, each.metric,
                     fmt::format("{:.5g}", each.before), fmt::format("{:.5g}", each.after),
                     fmt::format("{:+.4g}", each.difference), interval_text(each),
                     each.p_value ? fmt::format("{:.4f}", *each.p_value) : "",
                     each.samples > 0 ? cat(each.samples) : "", each.units != each.samples ? cat(each.units) : ""});
  }
  print_text_table(lines, 5, out);
  if (report.comparisons.size() > limit)
    out << "… " << report.comparisons.size() - limit << " more; --limit shows more, --json all\n";
  out << report.cells.size() << " cells in both: " << count_of(report, Verdict::kWorse) << " scores worse, "
      << count_of(report, Verdict::kBetter) << " better, " << count_of(report, Verdict::kUnclear) << " unclear, "
      << count_of(report, Verdict::kSame) << " the same\n";
  out << fmt::format(
      "intervals of {:g} %: paired bootstrap over samples, or groups of them that depend on each other ({} resamples), "
      "or standard errors where no samples are given\n",
      100 * options.confidence, options.resamples);
  const double expected =
      (1 - options.confidence) * static_cast<double>(report.comparisons.size() - count_of(report, Verdict::kSame));
  if (expected >= 1) out << fmt::format("of so many comparisons about {:.0f} would stand out by chance\n", expected);
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

Json comparison_json(const ComparisonReport& report) {
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
          {"comparisons", rows},
          {"cells", cells},
          {"only_before", report.only_before},
          {"only_after", report.only_after},
          {"provenance", report.provenance},
          {"notes", report.notes}};
}

}  // namespace mla
