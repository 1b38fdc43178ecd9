#include "core/low_rank/greedy.h"

#include <queue>
#include <utility>

#include "core/base/error.h"

namespace mla {

std::vector<std::int64_t> greedy_widths(const std::vector<LayerShare>& layers, const std::vector<double>& weights) {
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
    gains.emplace(weights[index] * (now * now - next * next), -static_cast<std::int64_t>(index));
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

}  // namespace mla
