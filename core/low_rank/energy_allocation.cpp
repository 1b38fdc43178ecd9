#include <algorithm>
#include <queue>
#include <utility>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/low_rank/allocator.h"

namespace mla {
namespace {

/// Every next element goes to the layer whose squared relative error falls most by it: the smallest sum of squared
/// relative errors that the budget buys, as singular values fall. Of equal layers the first one is served.
class Energy final : public Allocator {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Energy(Options) {}

  bool measures() const override { return true; }

  std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const override {
    std::vector<std::int64_t> widths;
    std::int64_t left = 0;
    for (const LayerShare& layer : layers) {
      widths.push_back(layer.least);
      left += layer.stated - layer.least;
    }
    expects(left >= 0, "stated widths are no smaller than the least ones");
    using Gain = std::pair<double, std::int64_t>;  // of the next element; minus the layer
    std::priority_queue<Gain> gains;
    const auto offer = [&](std::size_t index) {
      const LayerShare& layer = layers[index];
      const std::int64_t width = widths[index];
      if (width >= layer.most) return;
      const double now = layer.error(width), next = layer.error(width + 1);
      gains.emplace(now * now - next * next, -static_cast<std::int64_t>(index));
    };
    for (std::size_t i = 0; i < layers.size(); ++i) offer(i);
    for (; left > 0; --left) {
      expects(!gains.empty(), "stated widths are no larger than the largest ones");
      const auto index = static_cast<std::size_t>(-gains.top().second);
      gains.pop();
      ++widths[index];
      offer(index);
    }
    return widths;
  }
};

const Registration<Allocator, Energy> kEnergyAllocation(
    "energy", "the next element to the layer whose relative error falls most by it");

}  // namespace
}  // namespace mla
