#include "analysis/pivot/mean.h"

#include <algorithm>
#include <cmath>

#include "analysis/records/score_samples.h"
#include "core/base/statistics.h"

namespace mla {
namespace {

/// Squared errors of one part: had the samples been others, and what is counted twice with the error of the runs.
struct SampleSquares {
  double samples = 0, both = 0;
};

/// Of one mean among those that a value is made of: each run's samples, in the value's unit to first order.
SampleSquares squares_of(const std::vector<std::vector<double>>& samples, const std::vector<std::int64_t>& groups,
                         double scale) {
  const CombinedRuns combined = combine_runs(samples, groups);
  const auto square = [&](double error) { return scale * scale * error * error; };
  const double of_samples = square(combined.error_of_samples);
  return {of_samples, std::max(0.0, square(combined.error_of_runs) + of_samples - square(combined.standard_error))};
}

/// The samples behind one part of a value, run by run; empty where they are not alike in all runs.
std::vector<std::vector<SamplePart>> read_parts(const std::vector<Item>& items, const WeightedPart& part) {
  std::vector<std::vector<SamplePart>> runs;
  for (const Item& item : items) {
    const ScoreOutline* score = find_score(item.observation, part.task.empty() ? item.task : part.task, part.metric);
    auto parts = score ? RecordSamples(*item.observation.record).parts_of(*score) : std::vector<SamplePart>();
    if (parts.empty() || (!runs.empty() && parts.size() != runs.front().size())) return {};
    for (std::size_t k = 0; k < parts.size(); ++k) {
      const SamplePart& first = runs.empty() ? parts[k] : runs.front()[k];
      if (first.task != parts[k].task || first.groups != parts[k].groups || !pairing_problem(first, parts[k]).empty())
        return {};
    }
    runs.push_back(std::move(parts));
  }
  return runs;
}

std::optional<SampleSquares> squares_of(const std::vector<Item>& items, const WeightedPart& part) {
  auto runs = read_parts(items, part);
  if (runs.empty()) return {};
  SampleSquares sum;
  for (std::size_t k = 0; k < runs.front().size(); ++k) {
    std::vector<std::vector<double>> samples;
    const std::vector<std::int64_t> groups = runs.front()[k].groups;
    double scale = 0;
    for (auto& run : runs) {
      scale += part.weight * run[k].slope() / static_cast<double>(runs.size());
      samples.push_back(std::move(run[k].values));
    }
    const SampleSquares one = squares_of(samples, groups, scale);
    sum.samples += one.samples;
    sum.both += one.both;
  }
  return sum;
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
