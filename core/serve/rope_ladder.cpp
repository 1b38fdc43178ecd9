#include "core/serve/rope_ladder.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace mla {
namespace {

double rung(double theta, std::int64_t pair, std::int64_t pairs) {
  return std::pow(theta, -static_cast<double>(pair) / static_cast<double>(pairs));
}

/// The whole number that is meant where arithmetic has missed it by a few bits.
double tidy(double theta) {
  const double whole = std::round(theta);
  return std::abs(theta - whole) <= 1e-12 * whole ? whole : theta;
}

bool same(double a, double b) { return std::abs(a - b) <= kSameFrequency * std::abs(b); }

}  // namespace

std::vector<double> RopeLadder::frequencies() const {
  std::vector<double> all;
  for (std::int64_t i = 0; i < pairs; ++i) {
    const double divisor = form == RopeForm::kListed   ? divisors.at(static_cast<std::size_t>(i))
                           : form == RopeForm::kLinear ? factor
                                                       : 1;
    all.push_back(rung(theta, i, pairs) / divisor);
  }
  return all;
}

RopeLadder ladder_of(const std::vector<double>& frequencies, std::int64_t padded, double theta) {
  expects(padded >= std::ssize(frequencies) && padded > 0, "padding adds pairs");
  RopeLadder ladder;
  ladder.theta = theta;
  ladder.pairs = padded;
  if (frequencies.empty()) return ladder;
  // The steepness is read off the last pair, where the rounding of a logarithm weighs least.
  const double last = static_cast<double>(frequencies.size() - 1);
  if (last > 0)
    ladder.theta = tidy(std::pow(frequencies.front() / frequencies.back(), static_cast<double>(padded) / last));
  if (!same(frequencies.front(), 1)) {
    ladder.form = RopeForm::kLinear;
    ladder.factor = 1 / frequencies.front();
  }
  const std::vector<double> stated = ladder.frequencies();
  if (ladder.theta > 1 && std::equal(frequencies.begin(), frequencies.end(), stated.begin(), same)) return ladder;
  ladder = {RopeForm::kListed, theta, 1, {}, padded};
  for (std::int64_t i = 0; i < padded; ++i) {
    const bool known = i < std::ssize(frequencies);
    ladder.divisors.push_back(known ? rung(theta, i, padded) / frequencies[static_cast<std::size_t>(i)] : 1);
  }
  return ladder;
}

}  // namespace mla
