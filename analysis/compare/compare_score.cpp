#include "analysis/compare/compare_score.h"

#include <algorithm>
#include <cmath>

#include "analysis/compare/paired_items.h"
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
  result.unpaired_because = unpaired_because(a, samples_before, b, samples_after);
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
