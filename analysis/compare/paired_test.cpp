#include "analysis/compare/paired_test.h"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

#include "analysis/compare/paired_items.h"
#include "core/base/error.h"
#include "core/base/statistics.h"

namespace mla {
namespace {

struct Spread {
  double mean = 0, deviation = 0;
};

Spread spread_of(const std::vector<double>& values) {
  const double count = static_cast<double>(values.size());
  Spread spread;
  for (const double value : values) spread.mean += value / count;
  for (const double value : values) spread.deviation += (value - spread.mean) * (value - spread.mean);
  spread.deviation = values.size() > 1 ? std::sqrt(spread.deviation / (count - 1)) : 0;
  return spread;
}

/// Mean over cells of each group of items, in the score's unit.
std::vector<double> unit_means(const DifferencePart& part) {
  std::vector<double> means(part.differences.front().size(), 0);
  const double cells = static_cast<double>(part.differences.size());
  for (const auto& cell : part.differences) {
    for (std::size_t i = 0; i < cell.size(); ++i) means[i] += part.slope * cell[i] / cells;
  }
  return units_of(means, part.groups).means;
}

/// Degrees of freedom of a sum of two variances, each of so many units.
double degrees_of_freedom(double over_cells, double cells, double over_items, double items) {
  double inverse = 0;
  const double sum = over_cells + over_items;
  if (over_cells > 0 && cells > 1) inverse += std::pow(over_cells / sum, 2) / (cells - 1);
  if (over_items > 0 && items > 1) inverse += std::pow(over_items / sum, 2) / (items - 1);
  return inverse > 0 ? 1 / inverse : 0;
}

void add_effect(const std::vector<double>& units, double quantile, PairedTest& test) {
  const Spread spread = spread_of(units);
  if (units.size() < 2 || !(spread.deviation > 0)) return;
  const double count = static_cast<double>(units.size()), effect = spread.mean / spread.deviation;
  // Large-sample error of d of paired samples (Hedges and Olkin, 1985).
  const double error = std::sqrt(1 / count + effect * effect / (2 * count));
  test.effect = effect;
  test.effect_low = effect - quantile * error;
  test.effect_high = effect + quantile * error;
}

}  // namespace

PairedTest paired_test(const std::vector<DifferencePart>& parts, double confidence) {
  expects(!parts.empty() && !parts.front().differences.empty(), "a test needs differences");
  const std::size_t cells = parts.front().differences.size();
  std::vector<double> of_cells(cells, 0), units;
  double over_items = 0, both = 0;
  PairedTest test;
  for (const DifferencePart& part : parts) {
    const std::vector<std::int64_t> groups = groups_of(part.differences.front().size(), part.groups);
    const CombinedRuns combined = combine_runs(part.differences, groups);
    for (std::size_t cell = 0; cell < cells; ++cell)
      of_cells[cell] += part.slope * spread_of(part.differences[cell]).mean;
    test.difference += part.slope * combined.mean;
    over_items += std::pow(part.slope * combined.error_of_samples, 2);
    both = std::pow(part.slope * combined.standard_error, 2);
    test.items += static_cast<std::int64_t>(part.differences.front().size());
    for (const double unit : unit_means(part)) units.push_back(unit);
  }
  test.groups = std::ssize(units);
  const double over_cells = std::pow(spread_of(of_cells).deviation, 2) / static_cast<double>(cells);
  // What cells and items have in common is known of a single mean alone.
  const double variance = parts.size() == 1 ? both : over_cells + over_items;
  test.standard_error = std::sqrt(variance);
  const double most = static_cast<double>(std::max(cells, units.size()));
  if (most < 2) return test;
  const double freedom =
      degrees_of_freedom(over_cells, static_cast<double>(cells), over_items, static_cast<double>(units.size()));
  const double least = std::exp2(1 - most);
  if (!(freedom > 0)) {  // not one item or cell differs from the others
    test.low = test.high = test.difference;
    test.p_value = test.difference == 0 ? 1 : least;
    return test;
  }
  const boost::math::students_t student(freedom);
  const double quantile = boost::math::quantile(student, (1 + confidence) / 2);
  test.low = test.difference - quantile * test.standard_error;
  test.high = test.difference + quantile * test.standard_error;
  const double t = std::abs(test.difference) / test.standard_error;
  test.p_value = std::clamp(2 * boost::math::cdf(boost::math::complement(student, t)), least, 1.0);
  add_effect(units, quantile, test);
  return test;
}

}  // namespace mla
