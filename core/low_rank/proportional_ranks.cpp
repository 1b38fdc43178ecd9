#include "core/low_rank/proportional_ranks.h"

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

/// Shares of the budget, unrounded. Each turn settles those that would have less than one or more than they can, the
/// ones that have too little only once none has too much.
std::vector<double> shares_of(std::vector<double> weights, const std::vector<std::int64_t>& most, std::int64_t budget) {
  std::vector<double> shares(weights.size(), 0);
  std::vector<bool> settled(weights.size(), false);
  double left = static_cast<double>(budget);
  const auto settle = [&](const auto& leaves_range, const auto& bound) {
    double sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) sum += settled[i] ? 0 : weights[i];
    bool any = false;
    const double before = left;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (settled[i]) continue;
      shares[i] = sum > 0 ? before * weights[i] / sum : 0;
      if (!leaves_range(shares[i], i)) continue;
      settled[i] = any = true;
      shares[i] = bound(i);
      left -= shares[i];
    }
    return any;
  };
  const auto largest = [&](std::size_t i) { return static_cast<double>(most[i]); };
  while (settle([&](double share, std::size_t i) { return share > largest(i); }, largest) ||
         settle([](double share, std::size_t) { return share < 1; }, [](std::size_t) { return 1.0; })) {
  }
  return shares;
}

}  // namespace

std::vector<std::int64_t> proportional_ranks(const std::vector<double>& weights, const std::vector<std::int64_t>& most,
                                             std::int64_t budget) {
  const auto count = static_cast<std::int64_t>(weights.size());
  expects(weights.size() == most.size() && budget >= count &&
              budget <= std::accumulate(most.begin(), most.end(), std::int64_t{0}),
          "a budget of ranks lies between one for each matrix and all that they have use for");
  const bool alike = std::all_of(weights.begin(), weights.end(), [](double weight) { return weight == 0; });
  const std::vector<double> shares = shares_of(alike ? std::vector<double>(weights.size(), 1) : weights, most, budget);
  std::vector<std::int64_t> ranks;
  for (std::size_t i = 0; i < shares.size(); ++i)
    ranks.push_back(std::clamp(static_cast<std::int64_t>(shares[i]), std::int64_t{1}, most[i]));
  std::vector<std::size_t> order(shares.size());
  std::iota(order.begin(), order.end(), 0);
  const auto fraction = [&](std::size_t i) { return shares[i] - static_cast<double>(ranks[i]); };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return fraction(a) > fraction(b); });
  std::int64_t left = budget - std::accumulate(ranks.begin(), ranks.end(), std::int64_t{0});
  // Where ranges end, rounding may have given too much: that is taken from the smallest fractions.
  const std::int64_t step = left > 0 ? 1 : -1;
  if (left < 0) std::reverse(order.begin(), order.end());
  for (std::size_t turn = 0; left != 0; ++turn) {
    const std::size_t i = order[turn % order.size()];
    if (ranks[i] + step < 1 || ranks[i] + step > most[i]) continue;
    ranks[i] += step;
    left -= step;
  }
  return ranks;
}

}  // namespace mla
