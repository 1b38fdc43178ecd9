// What every way to share a budget promises.
#include "core/low_rank/allocator.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/random.h"
#include "core/base/registry.h"
#include "core/low_rank/adjusted_ranks.h"
#include "core/low_rank/condition_numbers.h"

namespace mla {
namespace {

using Allocators = Registry<Allocator>;

/// Squared relative errors that fall by falling steps, from 1 without an element to 0 with `most`.
LayerShare share(RandomStream& stream, std::int64_t stated) {
  LayerShare layer{1, stated + 2 + static_cast<std::int64_t>(stream.below(20)), stated, {}};
  const double steepness = 0.5 + 3 * static_cast<double>(stream.below(1000)) / 1000;
  layer.error = [most = layer.most, steepness](std::int64_t width) {
    return std::sqrt(std::pow(1 - static_cast<double>(width) / static_cast<double>(most), 1 + steepness));
  };
  layer.log_condition = [steepness] { return steepness; };
  return layer;
}

/// What `sensitivity` asks for: outputs of mean square 1 and gradients of mean square `weight`.
std::map<std::string, at::Tensor> measures_of(double weight) {
  return {{"attention_output.mean_square", at::ones({3}, at::kDouble)},
          {"gradient:attention_output.mean_square", at::full({3}, weight, at::kDouble)}};
}

double squared_errors(const std::vector<LayerShare>& layers, const std::vector<std::int64_t>& widths) {
  double sum = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) sum += std::pow(layers[i].error(widths[i]), 2);
  return sum;
}

TEST(AllocatorContract, Names) {
  EXPECT_THAT(Allocators::instance().names(),
              testing::ElementsAre("adjusted", "condition_numbers", "energy", "optimal", "sensitivity", "uniform"));
}

TEST(AllocatorContract, SpendsTheBudgetExactlyWithinBounds) {
  RandomStream stream(4, "shares");
  for (const std::string& name : Allocators::instance().names()) {
    const auto allocator = Allocators::instance().make({{"name", name}}, "allocate");
    for (int i = 0; i < 50; ++i) {
      std::vector<LayerShare> layers;
      for (std::uint64_t k = 0; k < 1 + stream.below(8); ++k) {
        layers.push_back(share(stream, 1 + static_cast<std::int64_t>(stream.below(12))));
        layers.back().measured = measures_of(static_cast<double>(stream.below(100)));
      }
      const std::vector<std::int64_t> widths = allocator->allocate(layers);
      ASSERT_EQ(widths.size(), layers.size());
      std::int64_t stated = 0;
      for (std::size_t k = 0; k < layers.size(); ++k) {
        stated += layers[k].stated;
        EXPECT_GE(widths[k], layers[k].least) << name;
        EXPECT_LE(widths[k], layers[k].most) << name;
      }
      EXPECT_EQ(std::accumulate(widths.begin(), widths.end(), std::int64_t{0}), stated) << name;
    }
  }
}

TEST(ConditionNumbers, GiveWhatThePaperStatesAtBothEnds) {
  const std::vector<double> sums = cumulative({0.5, 2, 1.5, 0, 3});
  EXPECT_THAT(sums, testing::ElementsAre(7, 6.5, 4.5, 3, 3));
  const std::vector<double> widths = progressive_widths(sums, 8, 32);
  EXPECT_DOUBLE_EQ(widths.front(), 32);
  EXPECT_DOUBLE_EQ(widths.back(), 8);
  EXPECT_DOUBLE_EQ(widths[2], 32 * (1 - 2.5 / 4 * (1 - 8.0 / 32)));
  EXPECT_TRUE(std::is_sorted(widths.rbegin(), widths.rend()));
  EXPECT_THAT(progressive_widths({2, 2}, 8, 32), testing::ElementsAre(32, 32));
  EXPECT_TRUE(progressive_widths({}, 8, 32).empty());
}

TEST(ConditionNumbers, AreThoseOfMatrices) {
  EXPECT_NEAR(log_condition(at::diag(at::tensor({4.0, 2.0, 0.5}, at::kDouble))), std::log(8.0), 1e-12);
  EXPECT_EQ(log_condition(at::zeros({0, 4})), 0);
  EXPECT_EQ(log_condition(at::zeros({2, 4})), 0);
  EXPECT_LT(log_condition(at::ones({3, 3}, at::kDouble)), 40);  // singular: as far as rounding tells
  EXPECT_THROW(log_condition(at::full({2, 2}, std::nan(""))), DataError);
}

TEST(AdjustedRanks, FollowTheRuleStepByStep) {
  // Two layers of the same spectrum 8, 4, 2, 1, 1 (of 16): an early layer counts for more by sqrt(2 / 1.5).
  const std::vector<double> left = {1, 0.5, 0.25, 0.125, 0.0625, 0};
  const auto of = [&](std::size_t, std::int64_t rank) { return left[static_cast<std::size_t>(rank)]; };
  const std::vector<RankRange> ranges(2, {1, 5});
  EXPECT_THAT(adjusted_ranks(of, ranges, 2), testing::ElementsAre(1, 1));
  // Both lose half of what is left; sqrt(4/3) against sqrt(2/3), then divided by sqrt(2): equal, the first one of them.
  EXPECT_THAT(adjusted_ranks(of, ranges, 3), testing::ElementsAre(2, 1));
  EXPECT_THAT(adjusted_ranks(of, {{1, 2}, {1, 5}}, 5), testing::ElementsAre(2, 3));
  EXPECT_THAT(adjusted_ranks(of, ranges, 10), testing::ElementsAre(5, 5));
  // What is left of the first layer does not fall: the second gets all.
  const auto flat = [&](std::size_t layer, std::int64_t rank) { return layer == 0 ? 1.0 : of(layer, rank); };
  EXPECT_THAT(adjusted_ranks(flat, ranges, 6), testing::ElementsAre(1, 5));
}

TEST(ConditionAllocation, FallsWithDepthOrRisesAndKeepsWhatIsAbove) {
  const auto widths_of = [](const Json& options, double log) {
    Json config = {{"name", "condition_numbers"}};
    config.update(options);
    std::vector<LayerShare> layers(5, LayerShare{1, 40, 12, {}});
    for (LayerShare& layer : layers) layer.log_condition = [log] { return log; };
    return Allocators::instance().make(config, "allocate")->allocate(layers);
  };
  EXPECT_EQ(widths_of(Json::object(), 2), (std::vector<std::int64_t>{18, 15, 12, 9, 6}));
  EXPECT_EQ(widths_of({{"reversed", true}}, 2), (std::vector<std::int64_t>{6, 9, 12, 15, 18}));
  EXPECT_EQ(widths_of({{"least", 1.0}}, 2), std::vector<std::int64_t>(5, 12));
  EXPECT_EQ(widths_of(Json::object(), 0), std::vector<std::int64_t>(5, 12));
  // The first layer, of ln 10, keeps all it can; the others share what is left.
  const std::vector<std::int64_t> kept = widths_of({{"keep_above", 9.0}}, 2);
  EXPECT_EQ(kept.front(), 40);
  EXPECT_EQ(std::accumulate(kept.begin(), kept.end(), std::int64_t{0}), 60);
  EXPECT_TRUE(std::is_sorted(kept.rbegin(), kept.rend()));
}

TEST(SensitivityAllocation, IsEnergyWhereLayersCountAlikeAndServesThoseThatCountMore) {
  RandomStream stream(6, "shares");
  const auto energy = Allocators::instance().make({{"name", "energy"}}, "allocate"),
             sensitivity = Allocators::instance().make({{"name", "sensitivity"}}, "allocate");
  for (int i = 0; i < 20; ++i) {
    std::vector<LayerShare> layers;
    for (int k = 0; k < 4; ++k) layers.push_back(share(stream, 2 + static_cast<std::int64_t>(stream.below(9))));
    for (LayerShare& layer : layers) layer.measured = measures_of(2);
    const std::vector<std::int64_t> alike = sensitivity->allocate(layers);
    EXPECT_EQ(alike, energy->allocate(layers));
    layers[2].measured = measures_of(1e9);
    const std::int64_t spare = std::accumulate(layers.begin(), layers.end(), std::int64_t{0},
                                               [](auto sum, auto& layer) { return sum + layer.stated - layer.least; });
    EXPECT_EQ(sensitivity->allocate(layers)[2], std::min(layers[2].most, layers[2].least + spare));
  }
  std::vector<LayerShare> layers{share(stream, 3)};
  layers[0].measured = measures_of(std::nan(""));
  EXPECT_THROW(sensitivity->allocate(layers), DataError);
}

TEST(OptimalAllocation, FindsWhatAGreedyOneMisses) {
  const auto optimal = Allocators::instance().make({{"name", "optimal"}}, "allocate"),
             energy = Allocators::instance().make({{"name", "energy"}}, "allocate");
  RandomStream stream(7, "shares");
  for (int i = 0; i < 30; ++i) {  // falling steps: the same sum
    std::vector<LayerShare> layers;
    for (int k = 0; k < 4; ++k) layers.push_back(share(stream, 2 + static_cast<std::int64_t>(stream.below(9))));
    EXPECT_NEAR(squared_errors(layers, optimal->allocate(layers)), squared_errors(layers, energy->allocate(layers)),
                1e-12);
  }
  // The first layer gains nothing from one more element and all from two; the second one a little from each.
  std::vector<LayerShare> layers{{1, 3, 2, [](std::int64_t width) { return width < 3 ? 1.0 : 0.0; }},
                                 {1, 3, 2, [](std::int64_t width) { return 1.0 - 0.1 * static_cast<double>(width); }}};
  EXPECT_EQ(optimal->allocate(layers), (std::vector<std::int64_t>{3, 1}));
  EXPECT_EQ(energy->allocate(layers), (std::vector<std::int64_t>{1, 3}));
}

TEST(EnergyAllocation, LosesNoMoreThanTheUniformOneAndNoMoreThanAnyExchange) {
  RandomStream stream(5, "shares");
  const auto energy = Allocators::instance().make({{"name", "energy"}}, "allocate");
  for (int i = 0; i < 50; ++i) {
    std::vector<LayerShare> layers;
    for (int k = 0; k < 4; ++k) layers.push_back(share(stream, 2 + static_cast<std::int64_t>(stream.below(9))));
    std::vector<std::int64_t> widths = energy->allocate(layers), uniform;
    for (const LayerShare& layer : layers) uniform.push_back(layer.stated);
    const double best = squared_errors(layers, widths);
    EXPECT_LE(best, squared_errors(layers, uniform) + 1e-12);
    for (std::size_t from = 0; from < layers.size(); ++from) {
      for (std::size_t to = 0; to < layers.size(); ++to) {
        if (from == to || widths[from] == layers[from].least || widths[to] == layers[to].most) continue;
        std::vector<std::int64_t> other = widths;
        --other[from];
        ++other[to];
        EXPECT_GE(squared_errors(layers, other), best - 1e-12);
      }
    }
  }
}

}  // namespace
}  // namespace mla
