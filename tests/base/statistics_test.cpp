// Errors of dependent samples, against their definitions and against repeated draws.
#include "core/base/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/base/random.h"

namespace mla {
namespace {

constexpr double kRounding = 1e-12;

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  double squares = 0;
  for (const double value : values) squares += std::pow(value - mean_of(values), 2);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

/// `groups` groups of `size` samples: a normal of the group plus a normal of its own times `own`.
std::vector<double> clustered(RandomStream& stream, std::size_t groups, std::size_t size, double own) {
  std::vector<double> samples;
  for (std::size_t g = 0; g < groups; ++g) {
    const double common = stream.normal();
    for (std::size_t i = 0; i < size; ++i) samples.push_back(common + own * stream.normal());
  }
  return samples;
}

TEST(Statistics, ErrorOfSingleSamplesIsTheUsualOne) {
  const std::vector<double> samples{1, 4, 2, 9, 5};
  const Estimate estimate = grouped_mean(samples, {});
  EXPECT_NEAR(estimate.value, 4.2, kRounding);
  EXPECT_NEAR(estimate.standard_error, deviation_of(samples) / std::sqrt(5), kRounding);
  EXPECT_NEAR(grouped_mean(samples, {1, 1, 0, 1, 1, 1}).standard_error, estimate.standard_error, kRounding);
  EXPECT_EQ(grouped_mean(samples, {5}).standard_error, 0);
}

TEST(Statistics, ErrorOfEqualGroupsIsThatOfTheirMeans) {
  const std::vector<double> samples{1, 3, 2, 8, 7, 9}, means{2, 5, 8};
  EXPECT_NEAR(grouped_mean(samples, {2, 2, 2}).standard_error, deviation_of(means) / std::sqrt(3), kRounding);
}

// The spread of estimates over fresh draws is what an error must state; tokens taken one by one state a third of it
// here.
TEST(Statistics, ErrorsForetellTheSpreadOfFreshDraws) {
  RandomStream stream(3, "clusters");
  const std::vector<std::int64_t> groups(30, 20);
  std::vector<double> means, errors, medians, median_errors, naive;
  for (int draw = 0; draw < 400; ++draw) {
    const auto samples = clustered(stream, groups.size(), 20, 1);
    const Estimate mean = grouped_mean(samples, groups), median = grouped_quantile(samples, groups, 0.5);
    means.push_back(mean.value);
    errors.push_back(mean.standard_error);
    medians.push_back(median.value);
    median_errors.push_back(median.standard_error);
    naive.push_back(grouped_mean(samples, {}).standard_error);
  }
  EXPECT_NEAR(mean_of(errors) / deviation_of(means), 1, 0.1);
  EXPECT_NEAR(mean_of(median_errors) / deviation_of(medians), 1, 0.12);
  EXPECT_LT(mean_of(naive), 0.4 * deviation_of(means));
}

TEST(Statistics, QuantilesInterpolate) {
  const std::vector<double> samples{5, 1, 4, 2, 3};
  EXPECT_EQ(grouped_quantile(samples, {}, 0.5).value, 3);
  EXPECT_NEAR(grouped_quantile(samples, {}, 0.9).value, 4.6, kRounding);
  EXPECT_EQ(grouped_quantile(samples, {}, 0).value, 1);
  EXPECT_EQ(grouped_quantile(samples, {}, 1).value, 5);
  EXPECT_EQ(grouped_quantile(std::vector<double>{7}, {}, 0.99).value, 7);
}

TEST(Statistics, ManyDocumentsAreGroupsFewAreCutIntoBlocks) {
  const SampleGroups many = text_groups(std::vector<std::int64_t>(25, 3), 100);
  EXPECT_EQ(many.unit, "document");
  EXPECT_EQ(many.sizes, std::vector<std::int64_t>(25, 3));
  const SampleGroups one = text_groups({100'000, 0}, 256);
  EXPECT_EQ(one.unit, "block of 256 tokens");
  EXPECT_EQ(std::accumulate(one.sizes.begin(), one.sizes.end(), std::int64_t{0}), 100'000);
  EXPECT_EQ(one.sizes.back(), 100'000 % 256);
  EXPECT_EQ(text_groups({200}, 256).unit, "block of 10 tokens");
  EXPECT_EQ(text_groups({9, 8}, 256).unit, "token");
  const SampleGroups two = text_groups({150, 50}, 256);
  EXPECT_EQ(two.sizes, std::vector<std::int64_t>(20, 10)) << "no block reaches over the border of documents";
}

TEST(Statistics, GroupMeansAreWhatABootstrapDraws) {
  const GroupMeans groups = group_means(std::vector<double>{1, 3, 7}, {2, 1});
  EXPECT_EQ(groups.means, (std::vector<double>{2, 7}));
  EXPECT_EQ(groups.weights, (std::vector<double>{2, 1}));
}

// Runs that see the same samples share the samples' error: more of them do not take it away.
TEST(Statistics, CombinedRunsForetellTheSpreadOfFreshRunsAndSamples) {
  RandomStream stream(5, "runs");
  std::vector<double> means, errors, between;
  const std::size_t runs = 5, items = 60;
  for (int draw = 0; draw < 600; ++draw) {
    std::vector<double> of_item, of_run;
    for (std::size_t i = 0; i < items; ++i) of_item.push_back(stream.normal());
    std::vector<std::vector<double>> samples;
    for (std::size_t r = 0; r < runs; ++r) {
      const double shift = 0.2 * stream.normal();
      samples.emplace_back();
      for (std::size_t i = 0; i < items; ++i) samples.back().push_back(shift + of_item[i] + 0.5 * stream.normal());
    }
    const CombinedRuns combined = combine_runs(samples, {});
    means.push_back(combined.mean);
    errors.push_back(combined.standard_error * combined.standard_error);
    between.push_back(combined.error_of_runs * combined.error_of_runs);
  }
  const double spread = deviation_of(means);
  EXPECT_NEAR(std::sqrt(mean_of(errors)) / spread, 1, 0.1);
  EXPECT_LT(std::sqrt(mean_of(between)), 0.75 * spread) << "the seeds' spread alone is too small an error";
}

TEST(Statistics, OneRunHasTheErrorOfItsSamples) {
  const std::vector<double> samples{1, 4, 2, 9};
  const CombinedRuns one = combine_runs({samples}, {});
  EXPECT_NEAR(one.standard_error, grouped_mean(samples, {}).standard_error, kRounding);
  EXPECT_EQ(one.between_runs, 0);
  const CombinedRuns two = combine_runs({{1, 1}, {3, 3}}, {});
  EXPECT_NEAR(two.mean, 2, kRounding);
  EXPECT_NEAR(two.between_runs, std::sqrt(2.0), kRounding);
  EXPECT_NEAR(two.standard_error, 1, kRounding);
  EXPECT_THROW(combine_runs({{1}, {1, 2}}, {}), std::logic_error);
  EXPECT_THROW(combine_runs({}, {}), std::logic_error);
}

TEST(Statistics, HolmsPValues) {
  EXPECT_EQ(holm_adjusted({}), std::vector<double>());
  EXPECT_EQ(holm_adjusted({0.04}), std::vector<double>{0.04});
  // 4 * 0.005, 3 * 0.01, 2 * 0.03 and 1 * 0.04, which may not fall below the one before.
  const std::vector<double> adjusted = holm_adjusted({0.01, 0.04, 0.03, 0.005}), expected = {0.03, 0.06, 0.06, 0.02};
  for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(adjusted[i], expected[i], kRounding);
  EXPECT_EQ(holm_adjusted({0.5, 0.6}), (std::vector<double>{1, 1}));
}

}  // namespace
}  // namespace mla
