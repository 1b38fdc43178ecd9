// Confidence intervals of means by resampling: of one set of samples, and of the difference between two paired ones.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace mla {

struct BootstrapOptions {
  std::int64_t resamples = 10'000;
  double confidence = 0.95;          ///< in (0, 1): the share of resamples that the interval holds
  std::uint64_t seed = 0;            ///< the same seed and stream give the same interval on every machine
  std::string stream = "bootstrap";  ///< name of the random stream; different names draw independently
};

/// A mean with the interval that its resamples fill.
struct BootstrapInterval {
  double mean = 0;            ///< of the samples themselves
  double low = 0, high = 0;   ///< percentiles (1 - confidence) / 2 and (1 + confidence) / 2 of the resampled means
  double standard_error = 0;  ///< standard deviation of the resampled means
  double p_value = 1;         ///< two-sided, of a mean of zero: twice the smaller share of resamples on one side of it
  std::int64_t samples = 0;

  /// Whether zero lies outside of the interval.
  bool excludes_zero() const { return low > 0 || high < 0; }
};

/// Mean of `values` by the percentile bootstrap (Efron and Tibshirani 1993, section 13.3): as many samples as there are
/// are drawn with replacement, `resamples` times. With `weights` (one per sample, positive) the mean is
/// sum(w x) / sum(w) of what is drawn: a perplexity's logarithm from documents' mean losses and token counts is one,
/// with whole documents drawn, as tokens of one document are not independent.
/// Time: resamples * samples draws, about 3 ns each. Throws std::logic_error for no samples, sizes that differ, values
/// that are not finite, and options out of range.
BootstrapInterval bootstrap_mean(std::span<const double> values, const BootstrapOptions& options = {},
                                 std::span<const double> weights = {});

/// Mean of after[i] - before[i], where both are of the same item i (Koehn 2004): what is hard for both alike cancels.
BootstrapInterval paired_bootstrap(std::span<const double> before, std::span<const double> after,
                                   const BootstrapOptions& options = {}, std::span<const double> weights = {});

}  // namespace mla
