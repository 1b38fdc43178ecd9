#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/low_rank/allocator.h"

namespace mla {
namespace {

/// The smallest sum of squared relative errors over all ways to divide the budget, by dynamic programming over layers
/// and what is spent: also where errors do not fall by falling steps, as those of a latent that keys and values divide
/// between them, which `energy` may miss.
class Optimal final : public Allocator {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Optimal(Options) {}

  bool measures() const override { return true; }

  std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const override {
    std::int64_t budget = 0;
    for (const LayerShare& layer : layers) budget += layer.stated - layer.least;
    expects(budget >= 0, "stated widths are no smaller than the least ones");
    const auto states = static_cast<std::size_t>(budget) + 1;
    constexpr double kImpossible = std::numeric_limits<double>::infinity();
    std::vector<double> best(states, kImpossible);
    best[0] = 0;
    std::vector<std::vector<std::int64_t>> chosen;  // by layer and elements spent so far: those of this layer
    for (const LayerShare& layer : layers) {
      const std::int64_t most = std::min(layer.most - layer.least, budget);
      std::vector<double> errors;
      for (std::int64_t extra = 0; extra <= most; ++extra) {
        const double error = layer.error(layer.least + extra);
        errors.push_back(error * error);
      }
      std::vector<double> next(states, kImpossible);
      std::vector<std::int64_t>& choice = chosen.emplace_back(states, 0);
      for (std::int64_t spent = 0; spent <= budget; ++spent) {
        for (std::int64_t extra = 0; extra <= std::min(most, spent); ++extra) {
          const double sum = best[static_cast<std::size_t>(spent - extra)] + errors[static_cast<std::size_t>(extra)];
          if (sum < next[static_cast<std::size_t>(spent)]) {
            next[static_cast<std::size_t>(spent)] = sum;
            choice[static_cast<std::size_t>(spent)] = extra;
          }
        }
      }
      best = std::move(next);
    }
    expects(best.back() < kImpossible, "stated widths are no larger than the largest ones");
    std::vector<std::int64_t> widths(layers.size());
    for (std::size_t i = layers.size(); i-- > 0;) {
      const std::int64_t extra = chosen[i][static_cast<std::size_t>(budget)];
      widths[i] = layers[i].least + extra;
      budget -= extra;
    }
    return widths;
  }
};

const Registration<Allocator, Optimal> kOptimalAllocation(
    "optimal", "the smallest sum of squared relative errors, by dynamic programming");

}  // namespace
}  // namespace mla
