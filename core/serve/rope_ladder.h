// Rotary frequencies as other engines state them: a ladder, a ladder that starts lower, or a list.
#pragma once

#include <cstdint>
#include <vector>

namespace mla {

/// Frequencies of the rotated pairs of a key, fastest first, as config files can state them. With m pairs:
enum class RopeForm {
  kLadder,  ///< theta^(-i/m), i = 0 … m-1: what every engine computes
  kLinear,  ///< the same over `factor`: position interpolation
  kListed,  ///< any: each one is a ladder's over a divisor of its own (longrope)
};

struct RopeLadder {
  RopeForm form = RopeForm::kLadder;
  double theta = 10000;
  double factor = 1;             ///< kLinear: what all frequencies are divided by
  std::vector<double> divisors;  ///< kListed: theta^(-i/m) / divisors[i] is the frequency of pair i
  std::int64_t pairs = 0;        ///< m

  /// The frequencies that are stated.
  std::vector<double> frequencies() const;
};

/// Frequencies that no conversion changes by more than this, relative, are the same.
inline constexpr double kSameFrequency = 1e-6;

/// States `frequencies`; then `padded` >= their number of pairs, of which those behind them may be anything. `theta`
/// is that of the model, for lists. Frequencies of no pair: a ladder of theta.
RopeLadder ladder_of(const std::vector<double>& frequencies, std::int64_t padded, double theta);

}  // namespace mla
