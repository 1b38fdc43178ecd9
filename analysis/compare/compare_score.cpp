#include "analysis/compare/compare_score.h"

#include <algorithm>
#include <cmath>

#include "analysis/records/portable_config.h"
#include "core/base/bootstrap.h"
#include "core/base/error.h"

namespace mla {
namespace {

Verdict verdict_of(const Comparison& comparison, double confidence) {
  const bool no_samples_differ = comparison.samples == 0 || (comparison.low == 0.0 && comparison.high == 0.0);
  if (comparison.difference == 0 && no_samples_differ) return Verdict::kSame;
  if (comparison.is_lost()) return Verdict::kWorse;
  if (!std::isfinite(comparison.difference)) {
    return std::isfinite(comparison.after) ? Verdict::kBetter : Verdict::kUnclear;
  }
  if (!comparison.p_value || *comparison.p_value > 1 - confidence) return Verdict::kUnclear;
  return (comparison.difference > 0) == comparison.higher_is_better ? Verdict::kBetter : Verdict::kWorse;
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
Units units_of(const std::vector<double>& samples, const std::vector<std::int64_t>& group_sizes) {
  constexpr std::size_t kMostSingle = 2000, kBlocks = 200;
  std::vector<std::size_t> ends;
  std::size_t total = 0;
  for (const std::int64_t size : group_sizes) ends.push_back(total += static_cast<std::size_t>(size));
  if (ends.empty()) {
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

/// The hashes of the files that an evaluation has read, by role; empty where the record does not say.
Json files_of(const RecordOutline& record, const std::string& task) {
  Json files = Json::object();
  const Json* evaluations = find_at(record.config, "evaluate");
  if (!evaluations || !evaluations->is_array()) return files;
  const Json hashes = data_hashes(record);
  for (std::size_t i = 0; i < evaluations->size(); ++i) {
    const Json& each = (*evaluations)[i];
    if (!each.is_object()) continue;
    std::string label = each.value("name", "");
    if (label.empty()) label = each.value("task", "");
    // "text", "text, cached" and LongBench's "longbench.hotpotqa" are of one evaluation.
    const std::string rest = task.starts_with(label) ? task.substr(label.size()) : "no";
    if (!rest.empty() && !rest.starts_with(".") && rest != ", cached") continue;
    const std::string role = cat("evaluate[", i, "][");
    for (const auto& [name, hash] : hashes.items()) {
      if (name.starts_with(role)) files[name.substr(role.size())] = hash;
    }
    if (rest.empty()) break;
  }
  return files;
}

/// Why items of the two cannot be paired; "" where they can.
std::string problem_of(const std::vector<SamplePart>& before, const RecordSamples& record_before,
                       const std::vector<SamplePart>& after, const RecordSamples& record_after) {
  if (before.empty() && after.empty()) return "the records have no items of it";
  if (before.empty() || after.empty()) return "one of the records has no items of it";
  if (before.size() != after.size()) return "averages of other tasks";
  for (std::size_t k = 0; k < before.size(); ++k) {
    if (before[k].task != after[k].task) return "averages of other tasks";
    if (std::string problem = pairing_problem(before[k], after[k]); !problem.empty()) return problem;
    const Json a = files_of(record_before.record().outline, before[k].task),
               b = files_of(record_after.record().outline, after[k].task);
    if (!a.empty() && !b.empty() && a != b) return "the evaluation read other files";
  }
  return "";
}

void compare_pairs(const std::string& stream, const std::vector<SamplePart>& before,
                   const std::vector<SamplePart>& after, const CompareOptions& options, Comparison& result) {
  std::vector<PairedMean> means;
  for (std::size_t k = 0; k < before.size(); ++k) {
    const auto& groups = before[k].groups.empty() ? after[k].groups : before[k].groups;
    Units a = units_of(before[k].values, groups), b = units_of(after[k].values, groups);
    means.push_back(
        {std::move(a.means), std::move(b.means), std::move(a.weights), before[k].factor, before[k].exponential});
    result.samples += static_cast<std::int64_t>(before[k].values.size());
  }
  BootstrapOptions bootstrap;
  bootstrap.confidence = options.confidence;
  bootstrap.resamples = options.resamples;
  bootstrap.seed = options.seed;
  bootstrap.stream = stream;
  const BootstrapInterval interval = paired_bootstrap(means, bootstrap);
  result.difference = interval.mean;
  result.low = interval.low;
  result.high = interval.high;
  result.p_value = interval.p_value;
  result.units = interval.samples;
}

void compare_errors(const ScoreOutline& before, const ScoreOutline& after, const CompareOptions& options,
                    Comparison& result) {
  result.difference = after.value - before.value;
  if (!before.standard_error || !after.standard_error) return;
  const double error = std::hypot(*before.standard_error, *after.standard_error);
  // Of a single group no error is known, and there is none of what is no number.
  if (!(error > 0) || !std::isfinite(error) || !std::isfinite(result.difference)) return;
  const double z = normal_quantile(options.confidence);
  result.low = result.difference - z * error;
  result.high = result.difference + z * error;
  result.p_value = std::erfc(std::abs(result.difference) / error / std::sqrt(2.0));
}

}  // namespace

Comparison compare_score(const std::string& cell, const ScoreOutline& before, RecordSamples& samples_before,
                         const ScoreOutline& after, RecordSamples& samples_after, const CompareOptions& options) {
  Comparison result;
  result.cell = cell;
  result.stage = before.stage;
  result.task = before.task;
  result.metric = before.metric;
  result.before = before.value;
  result.after = after.value;
  result.higher_is_better = before.higher_is_better;
  const std::vector<SamplePart> a = samples_before.parts_of(before), b = samples_after.parts_of(after);
  result.unpaired_because = problem_of(a, samples_before, b, samples_after);
  if (result.unpaired_because.empty()) {
    // Scores that are functions of one mean draw alike, and come to one verdict.
    const std::string of = a.size() == 1 ? a.front().task : cat(before.task, "/", before.metric);
    compare_pairs(cat("compare ", cell, " ", before.stage, " ", of), a, b, options, result);
  } else {
    compare_errors(before, after, options, result);
  }
  result.verdict = verdict_of(result, options.confidence);
  return result;
}

}  // namespace mla
