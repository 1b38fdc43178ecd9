#include "core/base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

constexpr int kDraws = 200'000;
/// Five standard deviations of an estimate: a wrong generator misses by far more, a right one never in practice.
constexpr double kDeviations = 5;

TEST(RandomStream, TheSequenceIsFrozen) {
  RandomStream stream(42, "data.order");
  const std::vector<std::uint64_t> words{stream.next(), stream.next(), stream.next()};
  EXPECT_EQ(words, (std::vector<std::uint64_t>{18062476131680953131u, 5448616361023396179u, 13124160269911040952u}));
  EXPECT_EQ(stream.uniform(), 0x1.04371ef6a101dp-1);
  EXPECT_EQ(stream.normal(), -0x1.c7948eb634015p+0);
  EXPECT_EQ(stream.below(1000), 366u);
}

TEST(RandomStream, FollowsXoshiro256PlusPlus) {
  // From words 1, 2, 3, 4 by hand: rotl(1 + 4, 23) + 1, then the state is 7, 0, 262146, 211106232532992.
  RandomStream stream(0, "");
  stream.restore("0000000000000001000000000000000200000000000000030000000000000004");
  EXPECT_EQ(stream.next(), 41943041u);
  EXPECT_EQ(stream.state(),
            "00000000000000070000000000000000"
            "00000000000400020000c00000000000");
}

TEST(RandomStream, SeedAndNameBothMatter) {
  std::set<std::uint64_t> first;
  for (const std::uint64_t seed : {0, 1, 2}) {
    for (const char* name : {"", "a", "b", "ab"}) first.insert(RandomStream(seed, name).next());
  }
  EXPECT_EQ(first.size(), 12u);
  EXPECT_EQ(RandomStream(1, "a").next(), RandomStream(1, "a").next());
}

TEST(RandomStream, UniformHasTheRightMomentsAndRange) {
  RandomStream stream(1, "uniform");
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = stream.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
    squares += u * u;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, kDeviations * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1.0 / 3, kDeviations * std::sqrt(4.0 / 45 / kDraws));
}

TEST(RandomStream, NormalHasTheRightMomentsAndTails) {
  RandomStream stream(2, "normal");
  double sum[5] = {};
  int beyond_two = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.normal();
    for (int power = 1; power <= 4; ++power) sum[power] += std::pow(x, power);
    beyond_two += std::abs(x) > 2;
  }
  // Variances of x, x^2, x^3, x^4: 1, 2, 15, 96.
  EXPECT_NEAR(sum[1] / kDraws, 0, kDeviations * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(sum[2] / kDraws, 1, kDeviations * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(sum[3] / kDraws, 0, kDeviations * std::sqrt(15.0 / kDraws));
  EXPECT_NEAR(sum[4] / kDraws, 3, kDeviations * std::sqrt(96.0 / kDraws));
  const double expected = std::erfc(std::sqrt(2.0));
  EXPECT_NEAR(beyond_two / static_cast<double>(kDraws), expected, kDeviations * std::sqrt(expected / kDraws));
}

TEST(RandomStream, BelowIsUniform) {
  RandomStream stream(3, "below");
  constexpr int kSides = 6;
  int counts[kSides] = {};
  for (int i = 0; i < kDraws; ++i) ++counts[stream.below(kSides)];
  const double expected = static_cast<double>(kDraws) / kSides;
  for (const int count : counts) EXPECT_NEAR(count, expected, kDeviations * std::sqrt(expected));
  EXPECT_EQ(stream.below(1), 0u);
  // Two thirds of 2^64: naive reduction of 64 bits would give the lower half twice as often as the upper.
  const std::uint64_t large = 0xaaaaaaaaaaaaaaaa;
  int upper = 0;
  for (int i = 0; i < kDraws; ++i) upper += stream.below(large) >= large / 2;
  EXPECT_NEAR(upper, kDraws / 2.0, kDeviations * std::sqrt(kDraws / 4.0));
  EXPECT_THROW(stream.below(0), std::logic_error);
}

TEST(RandomStream, ShuffleReachesEveryOrderEquallyOften) {
  RandomStream stream(4, "shuffle");
  std::map<std::vector<int>, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    std::vector<int> items{1, 2, 3};
    stream.shuffle(items);
    ++counts[items];
  }
  ASSERT_EQ(counts.size(), 6u);
  const double expected = kDraws / 6.0;
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, expected, kDeviations * std::sqrt(expected));
  std::vector<int> none;
  stream.shuffle(none);
}

TEST(RandomStream, ContinuesFromASavedState) {
  RandomStream stream(5, "resume");
  for (int i = 0; i < 10; ++i) stream.normal();
  RandomStream other(0, "");
  other.restore(stream.state());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(stream.normal(), other.normal());
}

TEST(RandomStream, BadStatesAreDataErrorsAndChangeNothing) {
  RandomStream stream(6, "x");
  const std::string before = stream.state();
  for (const std::string& bad :
       {std::string(), std::string(63, '1'), std::string(64, 'g'), std::string(64, '0'), std::string(63, '1') + "-"}) {
    EXPECT_THAT(test::message_of<DataError>([&] { stream.restore(bad); }), testing::HasSubstr("64 hex digits"));
  }
  EXPECT_EQ(stream.state(), before);
}

}  // namespace
}  // namespace mla
