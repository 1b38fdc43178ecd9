#include "core/base/permutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace mla {
namespace {

std::vector<std::int64_t> order(std::int64_t count, std::uint64_t seed, std::string_view name) {
  const RandomPermutation permutation(count, seed, name);
  std::vector<std::int64_t> places;
  for (std::int64_t i = 0; i < count; ++i) places.push_back(permutation(i));
  return places;
}

TEST(RandomPermutation, HasEachNumberOnce) {
  for (const std::int64_t count : {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 1000, 4097, 100'000}) {
    std::vector<std::int64_t> sorted = order(count, 7, "x");
    std::sort(sorted.begin(), sorted.end());
    for (std::int64_t i = 0; i < count; ++i) ASSERT_EQ(sorted[static_cast<std::size_t>(i)], i) << count;
  }
}

TEST(RandomPermutation, IsDecidedBySeedAndName) {
  EXPECT_EQ(order(1000, 1, "a"), order(1000, 1, "a"));
  EXPECT_NE(order(1000, 1, "a"), order(1000, 2, "a"));
  EXPECT_NE(order(1000, 1, "a"), order(1000, 1, "b"));
}

TEST(RandomPermutation, ReachesEveryPlaceOfACorpusLargerThanMemory) {
  constexpr std::int64_t kCount = std::int64_t{1} << 45;
  const RandomPermutation permutation(kCount, 3, "x");
  for (std::int64_t i = kCount - 1000; i < kCount; ++i) {
    const std::int64_t place = permutation(i);
    EXPECT_TRUE(place >= 0 && place < kCount);
  }
}

/// Where a number lands, and which one follows it, is even over many seeds: chi-square against equal shares.
TEST(RandomPermutation, IsEven) {
  constexpr int kCount = 5, kSeeds = 20'000;
  constexpr double kLimit = 37.6;  // of chi-square with 4 * 4 = 16 degrees of freedom: exceeded once in 600 times
  std::vector<std::vector<int>> found(kCount, std::vector<int>(kCount));
  for (int seed = 0; seed < kSeeds; ++seed) {
    const auto places = order(kCount, static_cast<std::uint64_t>(seed), "even");
    for (std::size_t i = 0; i < kCount; ++i) ++found[i][static_cast<std::size_t>(places[i])];
  }
  const double expected = static_cast<double>(kSeeds) / kCount;
  double chi_square = 0;
  for (const auto& row : found) {
    for (const int count : row) chi_square += std::pow(count - expected, 2) / expected;
  }
  EXPECT_LT(chi_square, kLimit);
}

/// Neighbours are torn apart: a step of one from place to place is as rare as in a random order (once on average).
TEST(RandomPermutation, KeepsNoNeighbours) {
  constexpr std::int64_t kCount = 10'000;
  const auto places = order(kCount, 11, "x");
  int steps = 0;
  for (std::size_t i = 1; i < places.size(); ++i) steps += places[i] == places[i - 1] + 1 ? 1 : 0;
  EXPECT_LE(steps, 6);
}

}  // namespace
}  // namespace mla
