#include "core/base/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"

namespace mla {
namespace {

/// Quantile of sorted values, linear between neighbours.
double quantile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

double mean_of(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double deviation_of(std::span<const double> values) {
  const double mean = mean_of(values);
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

/// Mean of a resample, without weights and with them.
double draw_mean(std::span<const double> values, RandomStream& random) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += values[random.below(values.size())];
  return sum / static_cast<double>(values.size());
}

double draw_mean(std::span<const double> values, std::span<const double> weights, RandomStream& random) {
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t drawn = random.below(values.size());
    sum += weights[drawn] * values[drawn];
    total += weights[drawn];
  }
  return sum / total;
}

void check(std::span<const double> values, const BootstrapOptions& options, std::span<const double> weights) {
  const auto finite = [](double value) { return std::isfinite(value); };
  expects(!values.empty(), "a bootstrap needs samples");
  expects(std::all_of(values.begin(), values.end(), finite), "a bootstrap needs finite samples");
  expects(weights.empty() || weights.size() == values.size(), "as many weights as samples");
  expects(std::all_of(weights.begin(), weights.end(), [&](double weight) { return weight > 0 && finite(weight); }),
          "a bootstrap needs positive weights");
  expects(options.resamples >= 2, "a bootstrap needs two resamples or more");
  expects(options.confidence > 0 && options.confidence < 1, "a confidence lies between 0 and 1");
}

double weighted_mean(std::span<const double> values, std::span<const double> weights) {
  if (weights.empty()) return mean_of(values);
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    sum += weights[i] * values[i];
    total += weights[i];
  }
  return sum / total;
}

/// Two-sided, from sorted means; one is added to counts, since the samples themselves are one of the resamples.
double p_value_of(const std::vector<double>& sorted) {
  const auto below = std::upper_bound(sorted.begin(), sorted.end(), 0.0) - sorted.begin();
  const auto above = sorted.end() - std::lower_bound(sorted.begin(), sorted.end(), 0.0);
  const double share = static_cast<double>(std::min(below, above) + 1) / static_cast<double>(sorted.size() + 1);
  return std::min(1.0, 2 * share);
}

}  // namespace

BootstrapInterval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options,
                                 std::span<const double> weights) {
  check(values, options, weights);
  BootstrapInterval result;
  result.samples = static_cast<std::int64_t>(values.size());
  result.mean = weighted_mean(values, weights);
  std::vector<double> centred(values.begin(), values.end());
  for (double& value : centred) value -= result.mean;
  RandomStream random(options.seed, options.stream);
  std::vector<double> means(static_cast<std::size_t>(options.resamples));
  for (double& mean : means) {
    mean = result.mean + (weights.empty() ? draw_mean(centred, random) : draw_mean(centred, weights, random));
  }
  std::sort(means.begin(), means.end());
  result.low = quantile(means, (1 - options.confidence) / 2);
  result.high = quantile(means, (1 + options.confidence) / 2);
  result.standard_error = deviation_of(means);
  result.p_value = p_value_of(means);
  return result;
}

BootstrapInterval paired_bootstrap(std::span<const double> before, std::span<const double> after,
                                   const BootstrapOptions& options, std::span<const double> weights) {
  expects(before.size() == after.size(), "paired samples come in equal numbers");
  std::vector<double> differences(before.size());
  for (std::size_t i = 0; i < before.size(); ++i) differences[i] = after[i] - before[i];
  return bootstrap_mean(differences, options, weights);
}

}  // namespace mla
