#include "core/train/mixture_schedule.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::int64_t kParts = 1'000'000;

/// Whole numbers in proportion to the weights that add up to kParts: rounded down, the rest to the largest remainders.
std::vector<std::int64_t> to_parts(const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> parts;
  std::vector<double> remainders;
  for (const double weight : weights) {
    const double share = std::max(1.0, weight / sum * static_cast<double>(kParts));  // rounding may fall below 1
    parts.push_back(static_cast<std::int64_t>(share));
    remainders.push_back(share - std::floor(share));
  }
  for (std::int64_t left = kParts - std::accumulate(parts.begin(), parts.end(), std::int64_t{0}); left > 0; --left) {
    const auto largest = std::max_element(remainders.begin(), remainders.end());
    ++parts[static_cast<std::size_t>(largest - remainders.begin())];
    *largest = -1;
  }
  return parts;
}

}  // namespace

void MixtureSchedule::check_weights(const std::vector<double>& weights, const std::string& path) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::string where = cat(path, "[", i, "].weight: ", weights[i]);
    if (!(std::isfinite(weights[i]) && weights[i] > 0)) throw ConfigError(where + " is not a positive number");
    if (weights[i] * static_cast<double>(kParts) < sum) {
      throw ConfigError(where + " is less than a millionth of all weights together");
    }
  }
}

MixtureSchedule::MixtureSchedule(const std::vector<double>& weights) : drawn_(weights.size(), 0) {
  expects(!weights.empty(), "a mixture needs a source");
  check_weights(weights, "mixture");
  parts_ = to_parts(weights);
  std::int64_t divisor = 0;
  for (const std::int64_t part : parts_) divisor = std::gcd(divisor, part);
  for (std::int64_t& part : parts_) part /= divisor;
  period_ = kParts / divisor;
}

std::size_t MixtureSchedule::next_source() const {
  // Whole periods cancel out of the lag, which keeps the products small.
  const std::int64_t periods = position_ / period_, place = position_ % period_;
  std::size_t furthest = 0;
  std::int64_t most = 0;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const std::int64_t lag = parts_[i] * (place + 1) - (drawn_[i] - periods * parts_[i]) * period_;
    if (i == 0 || lag > most) {
      furthest = i;
      most = lag;
    }
  }
  return furthest;
}

void MixtureSchedule::seek(std::int64_t position) {
  expects(position >= 0, "a position before the first draw");
  const std::int64_t start = position / period_ * period_;  // here the draws stand exactly at their shares
  if (position_ > position || position_ < start) {
    position_ = start;
    for (std::size_t i = 0; i < parts_.size(); ++i) drawn_[i] = start / period_ * parts_[i];
  }
  for (; position_ < position; ++position_) ++drawn_[next_source()];
}

MixtureSchedule::Draw MixtureSchedule::at(std::int64_t position) {
  seek(position);
  const std::size_t source = next_source();
  return {source, drawn_[source]};
}

}  // namespace mla
