#include "analysis/pivot/mean.h"

#include <algorithm>
#include <cmath>

#include "core/base/statistics.h"

namespace mla {
namespace {

constexpr double kSameValue = 1e-6;  ///< of a score and the mean of its samples, relative

/// Samples of one score in one run, in the score's unit.
struct Samples {
  std::vector<double> values;
  std::vector<std::int64_t> groups;
  double scale = 1;  ///< from the samples' error to the score's
};

std::optional<Samples> read_samples(const Item& item, const ScoreOutline& score) {
  const std::string group = score_group(score.stage, score.task, score.metric);
  const auto arrays = read_arrays(item.observation.record->path, {group + "/per_sample", group + "/group_sizes"});
  Samples samples{arrays[0], {}, 1};
  for (const double size : arrays[1]) samples.groups.push_back(static_cast<std::int64_t>(size));
  if (samples.values.empty()) return {};
  const double mean = grouped_mean(samples.values, samples.groups).value;
  if (!(std::abs(mean - score.value) <= kSameValue * std::max(1.0, std::abs(score.value)))) return {};
  return samples;
}

/// Of the score itself, or of the NLL whose exponential it is.
std::optional<Samples> samples_of(const Item& item, const WeightedPart& part) {
  const std::string& task = part.task.empty() ? item.task : part.task;
  const ScoreOutline* score = find_score(item.observation, task, part.metric);
  if (!score) return {};
  if (auto samples = read_samples(item, *score)) return samples;
  const ScoreOutline* nll = part.metric == "perplexity" ? find_score(item.observation, task, "nll") : nullptr;
  if (!nll || !(std::abs(std::exp(nll->value) / score->value - 1) <= kSameValue)) return {};
  auto samples = read_samples(item, *nll);
  if (samples) samples->scale = score->value;
  return samples;
}

/// Squared errors of one part: had the samples been others, and what is counted twice with the error of the runs.
struct SampleSquares {
  double samples = 0, both = 0;
};

std::optional<SampleSquares> squares_of(const std::vector<Item>& items, const WeightedPart& part) {
  std::vector<std::vector<double>> all;
  std::vector<std::int64_t> groups;
  double scale = 0;
  for (const Item& item : items) {
    auto samples = samples_of(item, part);
    if (!samples) return {};
    if (all.empty()) groups = samples->groups;
    if (!all.empty() && (samples->values.size() != all.front().size() || samples->groups != groups)) return {};
    scale += part.weight * samples->scale / static_cast<double>(items.size());
    all.push_back(std::move(samples->values));
  }
  const CombinedRuns combined = combine_runs(all, groups);
  const auto square = [&](double error) { return scale * scale * error * error; };
  const double samples = square(combined.error_of_samples);
  return SampleSquares{samples,
                       std::max(0.0, square(combined.error_of_runs) + samples - square(combined.standard_error))};
}

}  // namespace

TableValue mean_of(const std::vector<TableValue>& values) {
  if (values.size() == 1) return values.front();
  TableValue result;
  double squares = 0, sample_squares = 0;
  bool samples = true;
  const double count = static_cast<double>(values.size());
  for (const TableValue& value : values) result.mean += value.mean / count;
  for (const TableValue& value : values) {
    squares += (value.mean - result.mean) * (value.mean - result.mean);
    samples = samples && value.sample_error;
    sample_squares += value.sample_error.value_or(0) * value.sample_error.value_or(0);
  }
  result.run_error = result.error = std::sqrt(squares / (count - 1) / count);
  if (samples) result.sample_error = std::sqrt(sample_squares / count);
  const auto as_first = [&](const TableValue& value) { return value.mean == values.front().mean; };
  if (samples && std::all_of(values.begin(), values.end(), as_first)) {
    result.mean = values.front().mean;
    result.run_error = 0;
    result.error = result.sample_error;
  }
  result.runs = values.size();
  return result;
}

std::vector<WeightedPart> parts_of(const ValueSpec& value) {
  std::vector<WeightedPart> parts;
  const double scale = (value.share ? 100.0 : 1.0) / static_cast<double>(value.parts.size());
  for (const auto& [task, metric] : value.parts) parts.push_back({task, metric, scale});
  return parts;
}

std::vector<WeightedPart> parts_of_average(const std::vector<ValueSpec>& specs) {
  std::vector<WeightedPart> parts;
  const auto shares = std::count_if(specs.begin(), specs.end(), [](const ValueSpec& value) { return value.share; });
  for (const ValueSpec& value : specs) {
    if (!value.share) continue;
    for (WeightedPart part : parts_of(value)) {
      part.weight /= static_cast<double>(shares);
      parts.push_back(std::move(part));
    }
  }
  return parts;
}

bool combine_errors(const std::vector<Item>& items, const std::vector<WeightedPart>& parts, TableValue& mean) {
  if (parts.empty() || !mean.run_error) return false;
  SampleSquares sum;
  for (const WeightedPart& part : parts) {
    const auto squares = squares_of(items, part);
    if (!squares) return false;
    sum.samples += squares->samples;
    sum.both += squares->both;
  }
  const double runs = *mean.run_error * *mean.run_error;
  mean.sample_error = std::sqrt(sum.samples);
  mean.error = std::sqrt(std::max({runs + sum.samples - sum.both, runs, sum.samples}));
  return true;
}

}  // namespace mla
