#include "core/base/bootstrap.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
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

/// Two-sided; see BootstrapInterval. `sorted` are resampled means of so many samples.
double p_value_of(const std::vector<double>& sorted, double mean, std::size_t samples) {
  const auto below = std::upper_bound(sorted.begin(), sorted.end(), 0.0) - sorted.begin();
  const auto above = sorted.end() - std::lower_bound(sorted.begin(), sorted.end(), 0.0);
  const auto beyond = std::min(below, above);
  // One is added to counts, since the samples themselves are one of the resamples.
  double p = std::min(1.0, 2 * static_cast<double>(beyond + 1) / static_cast<double>(sorted.size() + 1));
  if (samples < 2) return 1;
  const double count = static_cast<double>(samples);
  if (beyond == 0) {
    const double error = deviation_of(sorted) * std::sqrt(count / (count - 1));
    const double t = std::abs(mean) / error;
    p = std::isfinite(t) ? std::min(p, 2 * cdf(complement(boost::math::students_t(count - 1), t))) : 0;
  }
  return std::max(p, std::exp2(1 - count));
}

/// What one resample of a mean gives, before and as the difference to after.
struct Draw {
  double before = 0, difference = 0;
};

Draw draw(const PairedMean& mean, const std::vector<double>& centred, double difference, RandomStream& random) {
  double before = 0, beyond = 0, total = 0;
  for (std::size_t i = 0; i < mean.before.size(); ++i) {
    const std::size_t drawn = random.below(mean.before.size());
    const double weight = mean.weights.empty() ? 1 : mean.weights[drawn];
    before += weight * mean.before[drawn];
    beyond += weight * centred[drawn];
    total += weight;
  }
  return {before / total, difference + beyond / total};
}

/// After minus before of what a mean contributes, with the sign of the means' difference.
double contribution(const PairedMean& mean, const Draw& drawn) {
  if (!mean.exponential || drawn.difference == 0) return mean.factor * drawn.difference;
  return mean.factor * std::exp(drawn.before) * std::expm1(drawn.difference);
}

void fill(std::vector<double>& draws, const BootstrapOptions& options, BootstrapInterval& result) {
  std::sort(draws.begin(), draws.end());
  result.low = quantile(draws, (1 - options.confidence) / 2);
  result.high = quantile(draws, (1 + options.confidence) / 2);
  result.standard_error = deviation_of(draws);
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
  fill(means, options, result);
  result.p_value = p_value_of(means, result.mean, values.size());
  return result;
}

BootstrapInterval paired_bootstrap(std::span<const double> before, std::span<const double> after,
                                   const BootstrapOptions& options, std::span<const double> weights) {
  expects(before.size() == after.size(), "paired samples come in equal numbers");
  std::vector<double> differences(before.size());
  for (std::size_t i = 0; i < before.size(); ++i) differences[i] = after[i] - before[i];
  return bootstrap_mean(differences, options, weights);
}

BootstrapInterval paired_bootstrap(std::span<const PairedMean> means, const BootstrapOptions& options) {
  expects(!means.empty(), "a bootstrap needs samples");
  std::vector<std::vector<double>> centred;
  std::vector<Draw> own;
  BootstrapInterval result;
  for (const PairedMean& mean : means) {
    check(mean.before, options, mean.weights);
    check(mean.after, options, {});
    expects(mean.before.size() == mean.after.size(), "paired samples come in equal numbers");
    expects(mean.factor > 0, "a factor is positive");
    std::vector<double> differences(mean.before.size());
    for (std::size_t i = 0; i < differences.size(); ++i) differences[i] = mean.after[i] - mean.before[i];
    own.push_back({weighted_mean(mean.before, mean.weights), weighted_mean(differences, mean.weights)});
    for (double& difference : differences) difference -= own.back().difference;
    centred.push_back(std::move(differences));
    result.mean += contribution(mean, own.back());
    result.samples += static_cast<std::int64_t>(mean.before.size());
  }
  RandomStream random(options.seed, options.stream);
  std::vector<double> scores(static_cast<std::size_t>(options.resamples), 0), single(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    for (std::size_t k = 0; k < means.size(); ++k) {
      const Draw drawn = draw(means[k], centred[k], own[k].difference, random);
      scores[i] += contribution(means[k], drawn);
      single[i] = drawn.difference;
    }
  }
  fill(scores, options, result);
  std::sort(single.begin(), single.end());
  const auto samples = static_cast<std::size_t>(result.samples);
  result.p_value = means.size() == 1 ? p_value_of(single, own.front().difference, samples)
                                     : p_value_of(scores, result.mean, samples);
  return result;
}

}  // namespace mla
