#include "core/quantize/codebook.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::size_t kMostPoints = 65536;

struct Point {
  double value = 0, weight = 0;
};

std::vector<Point> sorted_points(std::span<const float> values, std::span<const float> weights) {
  std::vector<Point> points(values.size());
  const bool weighted = std::any_of(weights.begin(), weights.end(), [](float w) { return w > 0; });
  for (std::size_t i = 0; i < values.size(); ++i) points[i] = {values[i], weighted ? weights[i] : 1.0};
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.value < b.value; });
  return points;
}

/// Merges equal neighbours, and `run` neighbours each where there are too many; a merged point lies at the mean.
std::vector<Point> merged(const std::vector<Point>& points) {
  const std::size_t run = (points.size() + kMostPoints - 1) / kMostPoints;
  std::vector<Point> result;
  std::size_t in_last = 0;
  for (const Point& point : points) {
    if (!result.empty() && (in_last < run || result.back().value == point.value)) {
      Point& last = result.back();
      const double weight = last.weight + point.weight;
      if (weight > 0) last.value += (point.value - last.value) * point.weight / weight;
      last.weight = weight;
      ++in_last;
    } else {
      result.push_back(point);
      in_last = 1;
    }
  }
  return result;
}

/// Squared distances of runs of points to their own mean, from prefix sums.
class RunCost {
 public:
  explicit RunCost(const std::vector<Point>& points) : sums_(points.size() + 1) {
    for (std::size_t i = 0; i < points.size(); ++i) {
      const auto& [value, weight] = points[i];
      sums_[i + 1] = {sums_[i].weight + weight, sums_[i].first + weight * value,
                      sums_[i].second + weight * value * value};
    }
  }
  /// Of points begin … end - 1.
  double operator()(std::size_t begin, std::size_t end) const {
    const double weight = sums_[end].weight - sums_[begin].weight;
    if (!(weight > 0)) return 0;
    const double first = sums_[end].first - sums_[begin].first;
    return std::max(0.0, sums_[end].second - sums_[begin].second - first * first / weight);
  }
  /// The mean of points begin … end - 1, or `otherwise` where they weigh nothing.
  double mean(std::size_t begin, std::size_t end, double otherwise) const {
    const double weight = sums_[end].weight - sums_[begin].weight;
    return weight > 0 ? (sums_[end].first - sums_[begin].first) / weight : otherwise;
  }

 private:
  struct Sums {
    double weight = 0, first = 0, second = 0;
  };
  std::vector<Sums> sums_;
};

/// One more cluster: best[e] = min over b of before[b] + cost(b, e), whose minimising b does not fall as e grows.
class Layer {
 public:
  Layer(const RunCost& cost, const std::vector<double>& before)
      : best(before.size(), std::numeric_limits<double>::infinity()),
        from(before.size()),
        cost_(cost),
        before_(before) {
    solve(1, before.size() - 1, 0, before.size() - 1);
    best[0] = 0;
  }
  std::vector<double> best;
  std::vector<std::uint32_t> from;

 private:
  void solve(std::size_t low, std::size_t high, std::size_t from_low, std::size_t from_high) {
    if (low > high) return;
    const std::size_t middle = (low + high) / 2;
    for (std::size_t b = from_low; b <= std::min(from_high, middle - 1); ++b) {
      const double total = before_[b] + cost_(b, middle);
      if (total < best[middle]) {
        best[middle] = total;
        from[middle] = static_cast<std::uint32_t>(b);
      }
    }
    const std::size_t split = from[middle];
    if (middle > low) solve(low, middle - 1, from_low, split);
    solve(middle + 1, high, split, from_high);
  }

  const RunCost& cost_;
  const std::vector<double>& before_;
};

}  // namespace

std::vector<double> weighted_kmeans(std::span<const float> values, std::span<const float> weights, std::int64_t count) {
  expects(values.size() == weights.size() && !values.empty(), "k-means needs a weight for each of its values");
  const std::vector<Point> points = merged(sorted_points(values, weights));
  const RunCost cost(points);
  const std::size_t size = points.size(), clusters = std::min(size, static_cast<std::size_t>(count));
  std::vector<std::vector<std::uint32_t>> from;
  std::vector<double> best(size + 1);
  for (std::size_t end = 0; end <= size; ++end) best[end] = cost(0, end);
  for (std::size_t k = 1; k < clusters; ++k) {
    Layer layer(cost, best);
    best = std::move(layer.best);
    from.push_back(std::move(layer.from));
  }
  std::vector<double> centres(static_cast<std::size_t>(count));
  std::size_t end = size;
  for (std::size_t k = clusters; k-- > 0;) {
    const std::size_t begin = k == 0 ? 0 : from[k - 1][end];
    centres[k] = begin < end ? cost.mean(begin, end, points[(begin + end) / 2].value) : points[begin].value;
    end = begin;
  }
  std::fill(centres.begin() + static_cast<std::ptrdiff_t>(clusters), centres.end(), centres[clusters - 1]);
  return centres;
}

double weighted_inertia(std::span<const float> values, std::span<const float> weights,
                        std::span<const double> centres) {
  double total = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    double nearest = std::numeric_limits<double>::infinity();
    for (const double centre : centres) nearest = std::min(nearest, std::abs(values[i] - centre));
    total += weights[i] * nearest * nearest;
  }
  return total;
}

std::vector<double> normal_float_codebook(int bits) {
  // The outermost quantile: the mean of those that divide the two halves of 4 bits evenly, as QLoRA has it.
  const double outermost = 1 - 0.5 * (1.0 / 32 + 1.0 / 30);
  const std::int64_t positive = std::int64_t{1} << (bits - 1);
  const auto half = [&](std::int64_t count) {  // from the outermost quantile inwards, the median left out
    const at::Tensor places = at::linspace(outermost, 0.5, count + 1, at::kDouble).narrow(0, 0, count);
    const at::Tensor quantiles = at::special_ndtri(places);
    return quantiles / quantiles.max();
  };
  std::vector<at::Tensor> parts{-half(std::max<std::int64_t>(positive - 1, 1)), at::zeros({1}, at::kDouble),
                                half(positive).flip(0)};
  if (bits == 1) parts.erase(parts.begin() + 1);
  const at::Tensor all = at::cat(parts);
  return {all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel()};
}

}  // namespace mla
