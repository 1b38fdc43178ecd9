#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/low_rank/adjusted_ranks.h"
#include "core/low_rank/allocator.h"

namespace mla {
namespace {

constexpr double kNothingLeft = 1e-12;

double gain(const std::function<double(std::size_t, std::int64_t)>& left, std::size_t layer, std::size_t layers,
            std::int64_t rank, std::int64_t least) {
  const double now = left(layer, rank), removed = now - left(layer, rank + 1);
  const double behind = static_cast<double>(layers - layer) / (static_cast<double>(layers + 1) / 2);
  const double cost =
      static_cast<double>(std::max<std::int64_t>(rank, 1)) / static_cast<double>(std::max<std::int64_t>(least, 1));
  return removed / std::max(now, kNothingLeft) * std::sqrt(behind) / std::sqrt(cost);
}

/// Half of what is stated to twice as much, shared by adjusted_ranks().
class Adjusted final : public Allocator {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Adjusted(Options) {}

  bool measures() const override { return true; }

  std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const override {
    std::vector<RankRange> ranges;
    std::int64_t budget = 0;
    for (const LayerShare& layer : layers) {
      ranges.push_back({std::max(layer.least, layer.stated / 2), std::min(layer.most, 2 * layer.stated)});
      budget += layer.stated;
    }
    const auto left = [&](std::size_t layer, std::int64_t width) {
      const double error = layers[layer].error(width);
      return error * error;
    };
    return adjusted_ranks(left, ranges, budget);
  }
};

const Registration<Allocator, Adjusted> kAdjustedAllocation(
    "adjusted", "by the share of its remaining error that a layer loses, early layers first (CARE)");

}  // namespace

std::vector<std::int64_t> adjusted_ranks(const std::function<double(std::size_t, std::int64_t)>& left,
                                         const std::vector<RankRange>& ranges, std::int64_t budget) {
  std::vector<std::int64_t> ranks;
  std::vector<double> gains;
  const auto gain_of = [&](std::size_t layer) {
    const RankRange& range = ranges[layer];
    return ranks[layer] < range.most ? gain(left, layer, ranges.size(), ranks[layer], range.least) : -1.0;
  };
  for (const RankRange& range : ranges) {
    ranks.push_back(range.least);
    budget -= range.least;
  }
  expects(budget >= 0, "a budget is no smaller than the least ranks");
  for (std::size_t layer = 0; layer < ranges.size(); ++layer) gains.push_back(gain_of(layer));
  for (; budget > 0; --budget) {
    const auto best = static_cast<std::size_t>(std::max_element(gains.begin(), gains.end()) - gains.begin());
    expects(ranks[best] < ranges[best].most, "a budget is no larger than the largest ranks");
    ++ranks[best];
    gains[best] = gain_of(best);
  }
  return ranks;
}

}  // namespace mla
