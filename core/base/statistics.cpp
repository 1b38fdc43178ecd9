#include "core/base/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

/// With fewer groups the error of the error is large.
constexpr std::int64_t kFewestGroups = 20;

struct Group {
  std::span<const double> samples;
  double size() const { return static_cast<double>(samples.size()); }
  double sum() const { return std::accumulate(samples.begin(), samples.end(), 0.0); }
};

std::vector<Group> split(std::span<const double> samples, const std::vector<std::int64_t>& groups) {
  std::vector<Group> all;
  if (groups.empty()) {
    for (std::size_t i = 0; i < samples.size(); ++i) all.push_back({samples.subspan(i, 1)});
    return all;
  }
  std::size_t begin = 0;
  for (const std::int64_t size : groups) {
    expects(size >= 0 && begin + static_cast<std::size_t>(size) <= samples.size(), "groups hold more than there is");
    if (size > 0) all.push_back({samples.subspan(begin, static_cast<std::size_t>(size))});
    begin += static_cast<std::size_t>(size);
  }
  expects(begin == samples.size(), "groups hold less than there is");
  return all;
}

/// Of the mean, from each group's sum beyond what the mean lets expect.
double error_from(const std::vector<double>& surpluses, double samples) {
  const double groups = static_cast<double>(surpluses.size());
  if (groups < 2) return 0;
  double squares = 0;
  for (const double surplus : surpluses) squares += surplus * surplus;
  return std::sqrt(squares * groups / (groups - 1)) / samples;
}

double quantile(const std::vector<double>& sorted, double share) {
  const double place = std::clamp(share, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double weight = place - static_cast<double>(below);
  // Infinite neighbours must not meet: their difference is no number.
  return weight == 0 ? sorted[below] : sorted[below] * (1 - weight) + sorted[above] * weight;
}

}  // namespace

SampleGroups text_groups(const std::vector<std::int64_t>& per_document, std::int64_t longest_block) {
  expects(longest_block >= 1, "a block holds a token");
  std::int64_t documents = 0, tokens = 0;
  for (const std::int64_t count : per_document) {
    documents += count > 0;
    tokens += count;
  }
  SampleGroups groups;
  if (documents >= kFewestGroups) {
    groups.sizes = per_document;
    groups.unit = "document";
    return groups;
  }
  const std::int64_t block = std::clamp<std::int64_t>(tokens / kFewestGroups, 1, longest_block);
  for (const std::int64_t count : per_document) {
    for (std::int64_t left = count; left > 0; left -= block) groups.sizes.push_back(std::min(left, block));
  }
  groups.unit = block == 1 ? "token" : cat("block of ", block, " tokens");
  return groups;
}

GroupMeans group_means(std::span<const double> samples, const std::vector<std::int64_t>& groups) {
  GroupMeans result;
  for (const Group& group : split(samples, groups)) {
    result.means.push_back(group.sum() / group.size());
    result.weights.push_back(group.size());
  }
  return result;
}

Estimate grouped_mean(std::span<const double> samples, const std::vector<std::int64_t>& groups) {
  expects(!samples.empty(), "the mean of nothing");
  const double count = static_cast<double>(samples.size());
  Estimate estimate;
  estimate.value = Group{samples}.sum() / count;
  std::vector<double> surpluses;
  for (const Group& group : split(samples, groups)) surpluses.push_back(group.sum() - estimate.value * group.size());
  estimate.standard_error = error_from(surpluses, count);
  return estimate;
}

Estimate grouped_quantile(std::span<const double> samples, const std::vector<std::int64_t>& groups, double share) {
  expects(!samples.empty(), "the quantile of nothing");
  std::vector<double> sorted(samples.begin(), samples.end()), below;
  std::sort(sorted.begin(), sorted.end());
  Estimate estimate;
  estimate.value = quantile(sorted, share);
  for (const double sample : samples) below.push_back(sample <= estimate.value ? 1 : 0);
  const double error = grouped_mean(below, groups).standard_error;
  estimate.standard_error = (quantile(sorted, share + error) - quantile(sorted, share - error)) / 2;
  return estimate;
}

CombinedRuns combine_runs(const std::vector<std::vector<double>>& samples, const std::vector<std::int64_t>& groups) {
  expects(!samples.empty() && !samples.front().empty(), "at least one run of one sample");
  const double runs = static_cast<double>(samples.size()), count = static_cast<double>(samples.front().size());
  std::vector<double> means, item_means(samples.front().size(), 0.0);
  for (const auto& run : samples) {
    expects(run.size() == item_means.size(), "all runs have the same samples");
    means.push_back(Group{run}.sum() / count);
    for (std::size_t i = 0; i < run.size(); ++i) item_means[i] += run[i] / runs;
  }
  CombinedRuns result;
  const Estimate over_runs = grouped_mean(means, {}), over_samples = grouped_mean(item_means, groups);
  result.mean = over_samples.value;
  result.error_of_samples = over_samples.standard_error;
  result.standard_error = over_samples.standard_error;
  if (samples.size() < 2) return result;
  result.error_of_runs = over_runs.standard_error;
  result.between_runs = over_runs.standard_error * std::sqrt(runs);
  std::vector<double> surpluses;
  for (const auto& run : samples) {
    for (const Group& group : split(run, groups)) surpluses.push_back(group.sum() - result.mean * group.size());
  }
  const double both = error_from(surpluses, runs * count);
  const double square =
      result.error_of_runs * result.error_of_runs + result.error_of_samples * result.error_of_samples - both * both;
  result.standard_error = std::max({std::sqrt(std::max(0.0, square)), result.error_of_runs, result.error_of_samples});
  return result;
}

std::vector<double> holm_adjusted(const std::vector<double>& p_values) {
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (std::size_t k = 0; k < order.size(); ++k) {
    largest = std::max(largest, static_cast<double>(order.size() - k) * p_values[order[k]]);
    adjusted[order[k]] = std::min(1.0, largest);
  }
  return adjusted;
}

}  // namespace mla
