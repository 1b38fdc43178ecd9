#include "core/serve/rope_ladder.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mla {
namespace {

/// Frequencies of these pairs of heads of width 16, theta 10000.
std::vector<double> ladder_frequencies(const std::vector<double>& pairs) {
  std::vector<double> all;
  for (const double pair : pairs) all.push_back(std::pow(10000.0, -pair / 8));
  return all;
}

void expect_stated(const std::vector<double>& wanted, const RopeLadder& ladder) {
  const std::vector<double> stated = ladder.frequencies();
  ASSERT_EQ(std::ssize(stated), ladder.pairs);
  for (std::size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(stated[i] / wanted[i], 1, kSameFrequency) << i;
}

TEST(RopeLadder, FastestPairsAndCombsHaveAThetaOfTheirOwn) {
  for (const auto& [pairs, theta] : {std::pair{std::vector<double>{0, 1, 2, 3}, 100.0},
                                     {std::vector<double>{0, 2, 4, 6}, 10000.0},
                                     {std::vector<double>{0, 3}, std::pow(10000.0, 0.75)},
                                     {std::vector<double>{0}, 10000.0}}) {
    const RopeLadder ladder = ladder_of(ladder_frequencies(pairs), std::ssize(pairs), 10000);
    EXPECT_EQ(ladder.form, RopeForm::kLadder);
    EXPECT_NEAR(ladder.theta / theta, 1, 1e-12);
    expect_stated(ladder_frequencies(pairs), ladder);
  }
}

TEST(RopeLadder, ALadderThatBeginsLowerIsDividedByAFactor) {
  const std::vector<double> low = ladder_frequencies({4, 5, 6, 7});
  const RopeLadder ladder = ladder_of(low, 4, 10000);
  EXPECT_EQ(ladder.form, RopeForm::kLinear);
  EXPECT_NEAR(ladder.factor, 100, 1e-9);
  expect_stated(low, ladder);
}

TEST(RopeLadder, OthersAreListed) {
  for (const std::vector<double>& pairs : {std::vector<double>{0, 1, 3}, {0, 0, 1, 1}, {2, 2}, {1, 1.5, 4}}) {
    const RopeLadder ladder = ladder_of(ladder_frequencies(pairs), std::ssize(pairs), 10000);
    EXPECT_EQ(ladder.form, RopeForm::kListed);
    EXPECT_EQ(ladder.theta, 10000);
    expect_stated(ladder_frequencies(pairs), ladder);
  }
}

TEST(RopeLadder, PaddingLeavesTheFirstFrequenciesAsTheyAre) {
  for (const std::vector<double>& pairs : {std::vector<double>{0, 2, 4, 6}, {4, 5, 6, 7}, {0, 1, 3}}) {
    const RopeLadder ladder = ladder_of(ladder_frequencies(pairs), 32, 10000);
    EXPECT_EQ(ladder.pairs, 32);
    EXPECT_EQ(ladder.form, ladder_of(ladder_frequencies(pairs), std::ssize(pairs), 10000).form);
    expect_stated(ladder_frequencies(pairs), ladder);
  }
}

TEST(RopeLadder, WithoutPairsItIsTheModels) {
  const RopeLadder ladder = ladder_of({}, 1, 500);
  EXPECT_EQ(ladder.form, RopeForm::kLadder);
  EXPECT_EQ(ladder.theta, 500);
}

}  // namespace
}  // namespace mla
