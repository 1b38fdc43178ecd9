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

TEST(Bootstrap, FunctionsOfAMeanHaveItsPValue) {
  const std::vector<double> before = normals(60, 3, 11);
  std::vector<double> after = before, weights(60, 1);
  const std::vector<double> noise = normals(60, 0, 12);
  for (std::size_t i = 0; i < after.size(); ++i) {
    after[i] += 0.11 + 0.2 * noise[i];
    weights[i] = 1 + static_cast<double>(i % 3);
  }
  const BootstrapInterval plain = paired_bootstrap(before, after, {}, weights);
  EXPECT_GT(plain.p_value, 0.001);
  EXPECT_LT(plain.p_value, 0.5);
  const PairedMean nll{before, after, weights}, perplexity{before, after, weights, 1, true},
      bits{before, after, weights, 0.4};
  const auto of = [](const PairedMean& mean) { return paired_bootstrap(std::vector{mean}); };
  EXPECT_EQ(of(nll).p_value, plain.p_value);
  EXPECT_EQ(of(perplexity).p_value, plain.p_value);
  EXPECT_EQ(of(bits).p_value, plain.p_value);
  EXPECT_NEAR(of(nll).low, plain.low, 1e-12);
  EXPECT_NEAR(of(bits).high, 0.4 * plain.high, 1e-12);
  double mean_before = 0, mean_after = 0, total = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    mean_before += weights[i] * before[i];
    mean_after += weights[i] * after[i];
    total += weights[i];
  }
  EXPECT_NEAR(of(perplexity).mean, std::exp(mean_after / total) - std::exp(mean_before / total), 1e-9);
  // By the delta method, since the difference is small.
  EXPECT_NEAR(of(perplexity).high, std::exp(mean_before / total) * plain.high, 0.3 * of(perplexity).high);
}

TEST(Bootstrap, AveragesOverTasksDrawEachTasksItems) {
  const std::vector<double> a = normals(50, 0, 1), b = normals(80, 0, 2), zero_a(50, 0), zero_b(80, 0);
  const BootstrapInterval both = paired_bootstrap(std::vector<PairedMean>{{zero_a, a, {}, 0.5}, {zero_b, b, {}, 0.5}});
  EXPECT_NEAR(both.mean, (bootstrap_mean(a).mean + bootstrap_mean(b).mean) / 2, 1e-12);
  const double error = std::hypot(bootstrap_mean(a).standard_error, bootstrap_mean(b).standard_error) / 2;
  EXPECT_NEAR(both.standard_error, error, 0.05 * error);
  EXPECT_EQ(both.samples, 130);
}

TEST(Bootstrap, PValuesBelowWhatResamplesCount) {
  // All resamples lie above zero: their number bounds the share by 2 / 10001, Student's t by far less.
  EXPECT_LT(bootstrap_mean(normals(100, 1, 5)).p_value, 1e-10);
  // Of four items the signs all agree by chance in one of eight cases, whatever their values.
  EXPECT_EQ(bootstrap_mean(std::vector<double>{1, 1.1, 0.9, 1}).p_value, 0.125);
  EXPECT_EQ(bootstrap_mean(std::vector<double>{1}).p_value, 1);
  EXPECT_NEAR(bootstrap_mean(std::vector<double>(40, 0.5)).p_value, std::exp2(-39), 1e-20);
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
