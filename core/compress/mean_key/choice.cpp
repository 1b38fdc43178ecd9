#include "core/compress/mean_key/choice.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/low_rank/exact_budget.h"

namespace mla {
namespace {

/// Budgets that are tried for a layer, as shares of the mean one.
constexpr std::int64_t kShares[] = {3, 5, 7, 9, 11, 13, 16}, kMeanShare = 9;
/// Up to so many slots all numbers are tried, or nearly.
constexpr std::int64_t kFewSlots = 16;

}  // namespace

std::vector<std::int64_t> slot_grid(std::int64_t most) {
  const bool fine = most <= kFewSlots;
  std::vector<std::int64_t> grid;
  for (std::int64_t slots = 0; slots <= most; slots += slots < 8 ? (fine ? 1 : 2) : (fine ? 2 : 4))
    grid.push_back(slots);
  return grid;
}

std::vector<std::int64_t> shared_budgets(std::int64_t stated, const std::vector<std::int64_t>& widths,
                                         std::int64_t most) {
  std::vector<std::int64_t> all = widths;
  all.push_back(stated);
  for (const std::int64_t share : kShares) {
    if (widths.empty()) all.push_back(std::max<std::int64_t>(1, stated * share / kMeanShare));
  }
  std::erase_if(all, [&](std::int64_t width) { return width > most; });
  std::sort(all.rbegin(), all.rend());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

std::vector<MeanKeyChoice> share_budget(const std::vector<std::vector<MeanKeyChoice>>& layers, std::int64_t total) {
  std::vector<std::vector<SizedLoss>> losses;
  for (const std::vector<MeanKeyChoice>& choices : layers) {
    std::vector<SizedLoss>& of_layer = losses.emplace_back();
    for (const MeanKeyChoice& choice : choices) of_layer.push_back({choice.cached, choice.error.in_stream});
  }
  const std::vector<std::size_t> taken = spend_exactly(losses, total);
  expects(taken.size() == layers.size(), "the widths stated are among those tried");
  std::vector<MeanKeyChoice> chosen;
  for (std::size_t layer = 0; layer < taken.size(); ++layer) chosen.push_back(layers[layer][taken[layer]]);
  return chosen;
}

std::vector<MeanKeyChoice> choose_alike(const std::vector<std::vector<MeanKeyChoice>>& layers) {
  std::vector<MeanKeyChoice> best;
  double least = 0;
  for (const MeanKeyChoice& first : layers.front()) {
    std::vector<MeanKeyChoice> now;
    double sum = 0;
    for (const std::vector<MeanKeyChoice>& choices : layers) {
      for (const MeanKeyChoice& choice : choices) {
        if (choice.slots != first.slots) continue;
        now.push_back(choice);
        sum += choice.error.in_stream;
      }
    }
    if (now.size() != layers.size() || (!best.empty() && sum >= least)) continue;
    best = now;
    least = sum;
  }
  return best;
}

}  // namespace mla
