// Means, quantiles and their standard errors over samples that are not independent of each other.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mla {

/// What is taken as independent in a list of samples: successive groups of them.
struct SampleGroups {
  std::vector<std::int64_t>
      sizes;                    ///< of the groups, in order; they add up to the samples. Empty: each sample by itself
  std::string unit = "sample";  ///< what a group is, for people: "document", "block of 256 tokens", …
};

/// Groups of a text's scored tokens, `per_document` of which belong to each document. Tokens of one document depend on
/// each other, so that taking each as independent states an error that is too small. With twenty documents or more a
/// group is a document; with fewer, each is cut into blocks of at most `longest_block` tokens, short enough to give
/// about twenty of them. Blocks of neighbouring tokens still depend on each other a little.
SampleGroups text_groups(const std::vector<std::int64_t>& per_document, std::int64_t longest_block);

/// Each group's mean and number of samples: values and weights of a bootstrap that draws whole groups.
struct GroupMeans {
  std::vector<double> means, weights;
};
GroupMeans group_means(std::span<const double> samples, const std::vector<std::int64_t>& groups);

/// A number and its standard error, in the number's unit.
struct Estimate {
  double value = 0;
  double standard_error = 0;  ///< 0 where one group alone leaves it unknown
};

/// Mean over all samples. With S_g the sum and n_g the number of group g's samples, N samples and G groups, its error
/// is sqrt(G / (G - 1) sum_g (S_g - mean n_g)^2) / N: that of a ratio estimate over clusters (Cochran, Sampling
/// Techniques, 1977, section 3.12), and with groups of one sample the usual s / sqrt(N).
Estimate grouped_mean(std::span<const double> samples, const std::vector<std::int64_t>& groups);

/// The quantile of all samples (0 <= share <= 1), interpolated linearly between neighbours. Its error is half the
/// distance between the quantiles at share -+ e, e being the error of the share of samples below it (Woodruff, JASA 47,
/// 1952).
Estimate grouped_quantile(std::span<const double> samples, const std::vector<std::int64_t>& groups, double share);

/// Several runs (seeds) measured on the same samples.
struct CombinedRuns {
  double mean = 0;              ///< over runs and samples
  double between_runs = 0;      ///< standard deviation of the runs' means
  double error_of_runs = 0;     ///< of `mean`, had the runs been others: between_runs / sqrt(runs)
  double error_of_samples = 0;  ///< of `mean`, had the samples been others
  double standard_error = 0;    ///< of `mean`, had both been others
};

/// Combines samples [run][sample]. All runs see the same samples, so that more runs do not make those more: the errors
/// add as runs^2 + samples^2 - both^2, where `both` takes each run's share of each group as independent (two-way
/// clustering: Cameron, Gelbach and Miller, JBES 29, 2011), and never below the larger of the first two. A single run
/// says nothing of other runs: its standard error is that of the samples alone. Throws std::logic_error for runs that
/// differ in length, or no run.
CombinedRuns combine_runs(const std::vector<std::vector<double>>& samples, const std::vector<std::int64_t>& groups);

/// P-values for many tests at once (Holm, Scandinavian Journal of Statistics 6, 1979): rejecting where the adjusted one
/// is at most alpha rejects any true hypothesis with probability alpha at most, however the tests depend on each other.
/// The k-th smallest of m becomes the largest of (m - j + 1) p_j over j <= k, at most 1.
std::vector<double> holm_adjusted(const std::vector<double>& p_values);

}  // namespace mla
