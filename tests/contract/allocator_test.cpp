// What every way to share a budget promises.
#include "core/low_rank/allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/random.h"
#include "core/base/registry.h"

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
  return layer;
}

double squared_errors(const std::vector<LayerShare>& layers, const std::vector<std::int64_t>& widths) {
  double sum = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) sum += std::pow(layers[i].error(widths[i]), 2);
  return sum;
}

TEST(AllocatorContract, Names) {
  EXPECT_THAT(Allocators::instance().names(), testing::ElementsAre("energy", "uniform"));
}

TEST(AllocatorContract, SpendsTheBudgetExactlyWithinBounds) {
  RandomStream stream(4, "shares");
  for (const std::string& name : Allocators::instance().names()) {
    const auto allocator = Allocators::instance().make({{"name", name}}, "allocate");
    for (int i = 0; i < 50; ++i) {
      std::vector<LayerShare> layers;
      for (std::uint64_t k = 0; k < 1 + stream.below(8); ++k)
        layers.push_back(share(stream, 1 + static_cast<std::int64_t>(stream.below(12))));
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
