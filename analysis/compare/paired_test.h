// The mean difference between two sets of cells on the same items, and what it is worth.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace mla {

/// Differences of one mean that a score is made of: [cell][item], after - before.
struct DifferencePart {
  std::vector<std::vector<double>> differences;
  std::vector<std::int64_t> groups;  ///< of items that depend on each other; empty: none do
  double slope = 1;                  ///< of the score by this mean
};

struct PairedTest {
  double difference = 0, standard_error = 0;
  std::optional<double> low, high, p_value;  ///< absent where one unit alone leaves them open
  std::optional<double> effect, effect_low, effect_high;
  std::int64_t items = 0, groups = 0;
};

/// Student's t with the degrees of freedom of Satterthwaite (Biometrics Bulletin 2, 1946) for the variances over cells
/// and over items. The p-value is never below 2^(1 - units): so often do signs that mean nothing all agree. All parts
/// have equally many cells.
PairedTest paired_test(const std::vector<DifferencePart>& parts, double confidence);

}  // namespace mla
