#include "core/attention/rotary.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace mla {
namespace {

/// Reference frequencies below are given with seven digits, computed in float32.
constexpr double kRelativeTolerance = 3e-7;

void expect_frequencies(const Rotary& rotary, std::int64_t length, const std::vector<double>& expected) {
  const at::Tensor found = rotary.frequencies(length);
  ASSERT_EQ(found.size(0), static_cast<std::int64_t>(expected.size()));
  for (std::size_t k = 0; k < expected.size(); ++k) {
    EXPECT_NEAR(found[static_cast<std::int64_t>(k)].item<double>() / expected[k], 1, kRelativeTolerance)
        << "pair " << k;
  }
}

RotaryScaling scaling(const std::string& type, double factor, std::int64_t original = 0) {
  RotaryScaling rule;
  rule.type = type;
  rule.factor = factor;
  rule.original_positions = original;
  return rule;
}

TEST(Rotary, PlainFrequenciesAreAGeometricSeries) {
  expect_frequencies(Rotary(10000, 8, 64, {}), 10, {1, 0.1, 0.01, 0.001});
}

TEST(Rotary, LinearScalingDividesEveryFrequency) {
  expect_frequencies(Rotary(10000, 16, 64, scaling("linear", 4)), 32,
                     {0.25, 0.07905694, 0.025, 0.007905694, 0.0025, 0.0007905694, 0.00025, 7.905694e-05});
}

TEST(Rotary, DynamicScalingStartsBeyondTheContextLength) {
  const Rotary rotary(10000, 16, 64, scaling("dynamic", 2));
  EXPECT_TRUE(rotary.depends_on_length());
  expect_frequencies(rotary, 64, {1, 0.3162278, 0.1, 0.03162278, 0.01, 0.003162278, 0.001, 0.0003162278});
  expect_frequencies(rotary, 100,
                     {1, 0.2839451, 0.08062484, 0.02289303, 0.006500365, 0.001845747, 0.0005240909, 0.0001488131});
}

TEST(Rotary, YarnBlendsAndScalesTheLogits) {
  const Rotary rotary(10000, 16, 64, scaling("yarn", 4, 16));
  expect_frequencies(rotary, 32, {1, 0.07905694, 0.025, 0.007905694, 0.0025, 0.0007905694, 0.00025, 7.905694e-05});
  EXPECT_NEAR(rotary.logit_scale(), 1.138629436111989 * 1.138629436111989, 1e-12);
}

TEST(Rotary, YarnOptionsChangeRampAndTemperature) {
  RotaryScaling rule = scaling("yarn", 8, 128);
  rule.beta_fast = 16;
  rule.beta_slow = 2;
  rule.truncate = false;
  rule.mscale = 0.7;
  rule.mscale_all_dim = 1.1;
  const Rotary rotary(10000, 32, 1024, rule);
  expect_frequencies(rotary, 32,
                     {1, 0.4832891, 0.1951755, 0.06668107, 0.01327513, 0.007029266, 0.003952847, 0.002222849, 0.00125,
                      0.0007029267, 0.0003952847, 0.0002222849, 0.000125, 7.029266e-05, 3.952847e-05, 2.222849e-05});
  EXPECT_NEAR(std::sqrt(rotary.logit_scale()), 0.9323064614995353, 1e-12);
}

TEST(Rotary, Llama3KeepsFastPairsAndDividesSlowOnes) {
  expect_frequencies(Rotary(10000, 16, 256, scaling("llama3", 8, 32)), 32,
                     {1, 0.09583998, 0.0125, 0.003952847, 0.00125, 0.0003952847, 0.000125, 3.952847e-05});
}

TEST(Rotary, TableContinuesAtAnyPosition) {
  const Rotary rotary(10000, 8, 64, {});
  const RotaryTable whole = rotary.table(0, 20, 20, at::kDouble), tail = rotary.table(13, 7, 20, at::kDouble);
  EXPECT_TRUE(at::equal(whole.cosine.narrow(0, 13, 7), tail.cosine));
  EXPECT_TRUE(at::equal(whole.sine.narrow(0, 13, 7), tail.sine));
}

}  // namespace
}  // namespace mla
