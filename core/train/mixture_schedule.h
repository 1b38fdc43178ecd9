// Which source each sequence of a weighted mixture comes from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace mla {

/// An endless sequence of draws from sources 0 … K - 1 whose shares follow the weights: every draw goes to the source
/// that lags furthest behind its share, the first of equals. After any number of draws a source has fewer than one draw
/// more than its share, and fewer than K - 1 less. Weights count in millionths of their sum, so that the sequence
/// repeats: any position is reached by looking at one period at most.
class MixtureSchedule {
 public:
  /// Throws ConfigError ("<path>[i].weight: …") for a weight that is not a positive number, or less than a millionth of
  /// their sum.
  static void check_weights(const std::vector<double>& weights, const std::string& path);

  /// At least one weight, and all as check_weights() wants them.
  explicit MixtureSchedule(const std::vector<double>& weights);

  struct Draw {
    std::size_t source = 0;
    std::int64_t number = 0;  ///< how many draws of this source came before
  };

  /// The draw at `position` >= 0. Constant time for the position after the last one asked for.
  Draw at(std::int64_t position);

  std::int64_t period() const { return period_; }

 private:
  std::size_t next_source() const;
  void seek(std::int64_t position);

  std::vector<std::int64_t> parts_;  ///< draws of each source in a period
  std::int64_t period_ = 0, position_ = 0;
  std::vector<std::int64_t> drawn_;  ///< of each source before position_
};

}  // namespace mla
