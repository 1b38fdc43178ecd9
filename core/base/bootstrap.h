// Confidence intervals of means by resampling: of one set of samples, and of the difference between two paired ones.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

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
  /// Two-sided, of a mean of zero: twice the smaller share of resamples on one side of it. Where all of them lie on one
  /// side, which says no more than that the share is small, Student's t with samples - 1 degrees of freedom if that is
  /// smaller. Never below 2^(1 - samples): so often do signs that mean nothing all agree.
  double p_value = 1;
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

/// Paired samples of one mean, with their weights (empty: 1 each), and how the mean enters a score.
struct PairedMean {
  std::vector<double> before, after, weights;
  double factor = 1;         ///< positive
  bool exponential = false;  ///< factor * exp(mean) instead of factor * mean
};

/// The difference between sum_k factor_k f_k(mean_k) after and before, f_k being the mean itself or its exponential:
/// perplexities, bits per byte, averages over tasks. Each mean's samples are drawn by themselves, the same ones before
/// and after. The sign of a single mean's difference is that of what it is a function of: its p-value is the same
/// whatever the function, and that of paired_bootstrap() without one. `samples` counts all means' samples.
/// Throws as paired_bootstrap() does.
BootstrapInterval paired_bootstrap(std::span<const PairedMean> means, const BootstrapOptions& options = {});

}  // namespace mla
