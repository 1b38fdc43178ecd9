#include "core/train/mixture_schedule.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using Weights = std::vector<double>;

TEST(MixtureSchedule, SharesFollowTheWeightsAtEveryPrefix) {
  for (const Weights& weights :
       {Weights{1}, {0.7, 0.3}, {1, 1, 1}, {0.05, 5, 0.2, 1.75}, {100, 1e-3}, {3, 1, 4, 1, 5, 9, 2, 6}}) {
    MixtureSchedule schedule(weights);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<std::int64_t> drawn(weights.size());
    for (std::int64_t position = 0; position < 20'000; ++position) {
      const auto [source, number] = schedule.at(position);
      ASSERT_EQ(number, drawn[source]++);
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const double share = weights[i] / sum * static_cast<double>(position + 1),
                     ahead = static_cast<double>(drawn[i]) - share;
        constexpr double kRounding = 0.02;  // of weights to millionths, over 20,000 draws
        ASSERT_LT(ahead, 1 + kRounding) << i << " after " << position + 1;
        ASSERT_GT(ahead, -std::max(1.0, static_cast<double>(weights.size()) - 1) - kRounding)
            << i << " after " << position + 1;
      }
    }
  }
}

TEST(MixtureSchedule, SimpleWeightsRepeatSoon) {
  EXPECT_EQ(MixtureSchedule({0.7, 0.3}).period(), 10);
  EXPECT_EQ(MixtureSchedule({2, 2}).period(), 2);
  EXPECT_EQ(MixtureSchedule({5}).period(), 1);
}

TEST(MixtureSchedule, AnyPositionIsReachedExactly) {
  for (const Weights& weights : {Weights{0.7, 0.3}, {0.123457, 0.3, 0.576543}}) {
    MixtureSchedule in_order(weights), jumping(weights);
    std::vector<MixtureSchedule::Draw> draws;
    for (std::int64_t position = 0; position < 3000; ++position) draws.push_back(in_order.at(position));
    for (const std::int64_t position : {2999, 0, 1500, 1501, 1499, 7, 2000, 10, 9}) {
      const auto [source, number] = jumping.at(position);
      EXPECT_EQ(source, draws[static_cast<std::size_t>(position)].source);
      EXPECT_EQ(number, draws[static_cast<std::size_t>(position)].number);
    }
  }
  // Far out, where counting up is out of the question: a whole number of periods stands exactly at the shares.
  MixtureSchedule far({0.7, 0.3});
  EXPECT_EQ(far.at(10'000'000'000'000).number, 7'000'000'000'000);
  EXPECT_EQ(far.at(10'000'000'000'000).source, 0u);
}

TEST(MixtureSchedule, RefusesWeightsThatAreNone) {
  const auto message = [](const Weights& weights) {
    return test::message_of<ConfigError>([&] { MixtureSchedule::check_weights(weights, "train.mixture"); });
  };
  EXPECT_EQ(message({1, 2}), "no error");
  EXPECT_EQ(message({1, 0}), "train.mixture[1].weight: 0 is not a positive number");
  EXPECT_EQ(message({-1, 1}), "train.mixture[0].weight: -1 is not a positive number");
  EXPECT_EQ(message({1, 1e-7}), "train.mixture[1].weight: 1e-07 is less than a millionth of all weights together");
}

}  // namespace
}  // namespace mla
