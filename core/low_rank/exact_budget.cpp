#include "core/low_rank/exact_budget.h"

#include <limits>

namespace mla {

std::vector<std::size_t> spend_exactly(const std::vector<std::vector<SizedLoss>>& layers, std::int64_t total) {
  if (total < 0) return {};
  constexpr double kImpossible = std::numeric_limits<double>::infinity();
  const auto states = static_cast<std::size_t>(total) + 1;
  std::vector<double> best(states, kImpossible);
  best[0] = 0;
  std::vector<std::vector<std::size_t>> chosen;  // by layer and what is spent with it
  for (const std::vector<SizedLoss>& choices : layers) {
    std::vector<double> next(states, kImpossible);
    std::vector<std::size_t>& choice = chosen.emplace_back(states, 0);
    for (std::size_t i = 0; i < choices.size(); ++i) {
      const std::int64_t size = choices[i].size;
      for (std::int64_t spent = size; size >= 0 && spent <= total; ++spent) {
        const double sum = best[static_cast<std::size_t>(spent - size)] + choices[i].loss;
        const auto state = static_cast<std::size_t>(spent);
        if (sum < next[state]) {
          next[state] = sum;
          choice[state] = i;
        }
      }
    }
    best = std::move(next);
  }
  if (!(best.back() < kImpossible)) return {};
  std::vector<std::size_t> taken(layers.size());
  for (std::size_t layer = layers.size(); layer-- > 0;) {
    taken[layer] = chosen[layer][static_cast<std::size_t>(total)];
    total -= layers[layer][taken[layer]].size;
  }
  return taken;
}

}  // namespace mla
