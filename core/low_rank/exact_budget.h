// One budget spent on layers that each have a few sizes to choose from.
#pragma once

#include <cstdint>
#include <vector>

namespace mla {

/// A size that a layer may have, and what it loses with it.
struct SizedLoss {
  std::int64_t size = 0;
  double loss = 0;
};

/// Of each layer the index of the choice taken, so that sizes add up to `total` exactly and losses to the least
/// possible: by dynamic programming over layers and what is spent. Empty where no choice adds up to the total. Equal
/// sums: the choices named first.
std::vector<std::size_t> spend_exactly(const std::vector<std::vector<SizedLoss>>& layers, std::int64_t total);

}  // namespace mla
