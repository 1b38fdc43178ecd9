#include "core/base/bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "core/base/random.h"

namespace mla {
namespace {

constexpr double kNormalQuantile = 1.959964;  // of 97.5 %

std::vector<double> normals(std::size_t count, double mean, std::uint64_t seed) {
  RandomStream random(seed, "samples");
  std::vector<double> values(count);
  for (double& value : values) value = mean + random.normal();
  return values;
}

TEST(Bootstrap, AgreesWithTheNormalInterval) {
  const std::vector<double> values = normals(400, 1, 3);
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / 400;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double error = std::sqrt(squares / 400 / 400);
  const BootstrapInterval interval = bootstrap_mean(values);
  EXPECT_DOUBLE_EQ(interval.mean, mean);
  EXPECT_NEAR(interval.standard_error, error, 0.03 * error);
  EXPECT_NEAR(interval.low, mean - kNormalQuantile * error, 0.1 * error);
  EXPECT_NEAR(interval.high, mean + kNormalQuantile * error, 0.1 * error);
  EXPECT_TRUE(interval.excludes_zero());
  EXPECT_LT(interval.p_value, 0.001);
  EXPECT_EQ(interval.samples, 400);
}

TEST(Bootstrap, CoversTheTrueMeanAsOftenAsItSays) {
  int covered = 0, rejected = 0;
  BootstrapOptions options;
  options.resamples = 400;
  options.confidence = 0.9;
  constexpr int kSets = 500;
  for (int set = 0; set < kSets; ++set) {
    const BootstrapInterval interval = bootstrap_mean(normals(40, 0, 100u + static_cast<unsigned>(set)), options);
    covered += interval.low <= 0 && interval.high >= 0;
    rejected += interval.p_value < 0.1;
  }
  EXPECT_NEAR(covered, 0.9 * kSets, 0.05 * kSets);
  EXPECT_NEAR(rejected, 0.1 * kSets, 0.05 * kSets);
}

TEST(Bootstrap, PairsCancelWhatIsHardForBoth) {
  const std::vector<double> before = normals(100, 5, 7);
  std::vector<double> after = before;
  const std::vector<double> noise = normals(100, 0.1, 8);
  for (std::size_t i = 0; i < after.size(); ++i) after[i] += 0.1 + 0.05 * noise[i];
  const BootstrapInterval paired = paired_bootstrap(before, after);
  EXPECT_NEAR(paired.mean, 0.105, 0.02);
  EXPECT_TRUE(paired.excludes_zero());
  EXPECT_LT(paired.standard_error, 0.1 * bootstrap_mean(before).standard_error);
  const BootstrapInterval back = paired_bootstrap(after, before);
  EXPECT_DOUBLE_EQ(back.mean, -paired.mean);
}

TEST(Bootstrap, EqualSamplesDifferByNothing) {
  const std::vector<double> values = normals(50, 1, 1);
  const BootstrapInterval interval = paired_bootstrap(values, values);
  EXPECT_EQ(interval.mean, 0);
  EXPECT_EQ(interval.low, 0);
  EXPECT_EQ(interval.high, 0);
  EXPECT_EQ(interval.p_value, 1);
  EXPECT_FALSE(interval.excludes_zero());
}

TEST(Bootstrap, WeightsCountASampleSoOften) {
  const std::vector<double> values = {1, 4}, weights = {3, 1};
  const BootstrapInterval interval = bootstrap_mean(values, {}, weights);
  EXPECT_DOUBLE_EQ(interval.mean, 1.75);
  EXPECT_DOUBLE_EQ(interval.low, 1);  // a quarter of the resamples draw one sample twice
  EXPECT_DOUBLE_EQ(interval.high, 4);
  const std::vector<double> equal(60, 2.5), some = normals(60, 0, 2);
  EXPECT_DOUBLE_EQ(bootstrap_mean(some, {}, equal).mean, bootstrap_mean(some).mean);
  EXPECT_NEAR(bootstrap_mean(some, {}, equal).high, bootstrap_mean(some).high, 1e-12);
}

TEST(Bootstrap, TheSeedAndTheStreamDecide) {
  const std::vector<double> values = normals(30, 0, 5);
  BootstrapOptions other_seed, other_stream;
  other_seed.seed = 1;
  other_stream.stream = "else";
  EXPECT_EQ(bootstrap_mean(values).low, bootstrap_mean(values).low);
  EXPECT_NE(bootstrap_mean(values).low, bootstrap_mean(values, other_seed).low);
  EXPECT_NE(bootstrap_mean(values).low, bootstrap_mean(values, other_stream).low);
}

TEST(Bootstrap, RefusesWhatHasNoMean) {
  const std::vector<double> none, one = {1}, two = {1, 2}, wrong = {1, std::nan("")}, zero = {0, 1};
  EXPECT_THROW(bootstrap_mean(none), std::logic_error);
  EXPECT_THROW(bootstrap_mean(wrong), std::logic_error);
  EXPECT_THROW(bootstrap_mean(two, {}, one), std::logic_error);
  EXPECT_THROW(bootstrap_mean(two, {}, zero), std::logic_error);
  EXPECT_THROW(paired_bootstrap(one, two), std::logic_error);
  BootstrapOptions options;
  options.confidence = 1;
  EXPECT_THROW(bootstrap_mean(two, options), std::logic_error);
  options = {};
  options.resamples = 1;
  EXPECT_THROW(bootstrap_mean(two, options), std::logic_error);
  EXPECT_EQ(bootstrap_mean(one).low, 1);
}

}  // namespace
}  // namespace mla
