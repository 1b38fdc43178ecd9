#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/low_rank/allocator.h"
#include "core/low_rank/condition_numbers.h"

namespace mla {

double log_condition_of(const at::Tensor& singular_values) {
  if (singular_values.numel() == 0) return 0;
  const double largest = singular_values[0].item<double>(), smallest = singular_values[-1].item<double>();
  if (!(largest > 0)) return 0;
  const double floor = largest * static_cast<double>(singular_values.numel()) * std::numeric_limits<double>::epsilon();
  return std::log(largest / std::max(smallest, floor));
}

double log_condition(const at::Tensor& matrix) {
  if (matrix.numel() == 0) return 0;
  if (!matrix.isfinite().all().item<bool>()) throw DataError("the weights hold a value that is not finite");
  return log_condition_of(at::linalg_svdvals(matrix.to(at::kCPU, at::kDouble)));
}

std::vector<double> cumulative(const std::vector<double>& log_conditions) {
  std::vector<double> sums = log_conditions;
  for (std::size_t i = sums.size(); i-- > 1;) sums[i - 1] += sums[i];
  return sums;
}

std::vector<double> progressive_widths(const std::vector<double>& cumulative, double least, double most) {
  if (cumulative.empty()) return {};
  const auto [low, high] = std::minmax_element(cumulative.begin(), cumulative.end());
  std::vector<double> widths;
  for (const double value : cumulative) {
    const double behind = *high > *low ? (*high - value) / (*high - *low) : 0;
    widths.push_back(most * (1 - behind * (1 - least / most)));
  }
  return widths;
}

namespace {

/// Rounds to whole widths of the same sum, which is whole: the largest remainders get one more.
std::vector<std::int64_t> rounded_to(const std::vector<double>& widths, const std::vector<LayerShare>& layers,
                                     std::int64_t total) {
  std::vector<std::int64_t> whole;
  for (std::size_t i = 0; i < widths.size(); ++i) {
    const auto below = static_cast<std::int64_t>(std::floor(widths[i] + 1e-9));
    whole.push_back(std::clamp(below, layers[i].least, layers[i].most));
    total -= whole.back();
  }
  std::vector<std::size_t> order(widths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto remainder = [&](std::size_t i) { return widths[i] - static_cast<double>(whole[i]); };
  while (total != 0) {
    const std::int64_t step = total > 0 ? 1 : -1;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return step > 0 ? remainder(a) > remainder(b) : remainder(a) < remainder(b);
    });
    const auto next = std::find_if(order.begin(), order.end(), [&](std::size_t i) {
      return step > 0 ? whole[i] < layers[i].most : whole[i] > layers[i].least;
    });
    expects(next != order.end(), "stated widths lie between the least and the largest ones");
    whole[*next] += step;
    total -= step;
  }
  return whole;
}

/// The number at which `sum`, which does not fall, reaches `wanted`, from `low` to `high`.
template <class Sum>
double solve(double low, double high, double wanted, const Sum& sum) {
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (sum(middle) < wanted ? low : high) = middle;
  }
  return (low + high) / 2;
}

/// LoRC's progressive widths at an exact budget: `least` is a share of the mean width, and the widest layer gets what
/// the budget leaves. The paper states both ends instead, and then has no say over their sum.
class ConditionNumbers final : public Allocator {
 public:
  struct Options {
    double least = 0.5;
    std::optional<double> keep_above;
    bool reversed = false;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("least", self.least, "width of the least sensitive layer, a share of the mean width");
      visit("keep_above", self.keep_above,
            "layers of a larger ln of the cumulative condition number keep as much as they can; null: none");
      visit("reversed", self.reversed, "the widths in reversed order: a control");
    }
    void validate(const std::string& path) const {
      if (!(least > 0 && least <= 1)) throw ConfigError(cat(path, ".least = ", least, ": must be above 0, at most 1"));
      if (reversed && keep_above) throw ConfigError(cat(path, ".reversed: keep_above names layers; leave one out"));
    }
  };
  explicit ConditionNumbers(Options options) : options_(options) {}

  bool measures() const override { return true; }

  std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const override {
    if (layers.empty()) return {};
    std::vector<double> logs;
    std::int64_t budget = 0;
    for (const LayerShare& layer : layers) {
      expects(static_cast<bool>(layer.log_condition), "condition numbers are those of matrices");
      logs.push_back(layer.log_condition());
      budget += layer.stated;
    }
    std::vector<double> sums = cumulative(logs);
    const std::vector<double> least_first = options_.reversed ? std::vector(sums.rbegin(), sums.rend()) : sums;
    return rounded_to(within_budget(least_first, layers, static_cast<double>(budget)), layers, budget);
  }

 private:
  std::vector<double> within_budget(const std::vector<double>& sums, const std::vector<LayerShare>& layers,
                                    double budget) const {
    double largest = 0;
    for (const LayerShare& layer : layers) largest = std::max(largest, static_cast<double>(layer.most));
    const auto widths = [&](double low, double high) {
      std::vector<double> all = progressive_widths(sums, low, high);
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (options_.keep_above && sums[i] > *options_.keep_above) all[i] = largest;
        all[i] = std::clamp(all[i], static_cast<double>(layers[i].least), static_cast<double>(layers[i].most));
      }
      return all;
    };
    const auto sum = [&](double low, double high) {
      const std::vector<double> all = widths(low, high);
      return std::accumulate(all.begin(), all.end(), 0.0);
    };
    // First the wide end rises; once it is as wide as any layer can be and further, so that more of them are, the
    // narrow end does; it falls below its share where kept layers leave less.
    const double low = options_.least * budget / static_cast<double>(layers.size()), wide = largest * 1e3;
    if (sum(low, low) > budget) {
      const double both = solve(1e-3, low, budget, [&](double x) { return sum(x, x); });
      return widths(both, both);
    }
    if (sum(low, wide) >= budget) return widths(low, solve(low, wide, budget, [&](double x) { return sum(low, x); }));
    return widths(solve(low, largest, budget, [&](double x) { return sum(x, wide); }), wide);
  }

  Options options_;
};

const Registration<Allocator, ConditionNumbers> kConditionAllocation(
    "condition_numbers", "wider where weights of the layer and of those behind it are ill-conditioned (LoRC)");

}  // namespace
}  // namespace mla
