// What every partial-RoPE strategy must do, over all registered names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/partial_rope/selector.h"

namespace mla {
namespace {

using ::testing::ElementsAre;
using Selectors = Registry<RopeSelector>;

PairNorms rising_norms(const HeadGeometry& geometry) {
  const auto rows = [&](std::int64_t heads) {
    std::vector<std::vector<double>> norms(static_cast<std::size_t>(heads));
    for (std::size_t head = 0; head < norms.size(); ++head) {
      for (std::int64_t pair = 0; pair < geometry.head_dim / 2; ++pair) {
        norms[head].push_back(1 + static_cast<double>((pair * 7 + static_cast<std::int64_t>(head) * 3) % 11));
      }
    }
    return norms;
  };
  return {rows(geometry.heads), rows(geometry.kv_heads)};
}

/// Options that give a strategy a count of pairs, where it takes one.
Json config_with_pairs(const std::string& name, std::int64_t pairs) {
  Json config{{"name", name}};
  if (Selectors::instance().find(name, "rope").defaults.contains("pairs")) config["pairs"] = pairs;
  if (name == "explicit") {
    config["kept"] = Json::array();
    for (std::int64_t pair = 0; pair < pairs; ++pair) config["kept"].push_back(pair);
  }
  return config;
}

TEST(RopeSelectorContract, Names) {
  EXPECT_THAT(Selectors::instance().names(), ElementsAre("all", "explicit", "high", "low", "two_norm", "uniform"));
}

TEST(RopeSelectorContract, KeepsAsManyAscendingPairsAsAnnounced) {
  for (const std::string& name : Selectors::instance().names()) {
    for (const HeadGeometry& geometry :
         {HeadGeometry{2, 4, 2, 16}, HeadGeometry{1, 3, 3, 64}, HeadGeometry{1, 8, 1, 6}}) {
      const PairNorms norms = rising_norms(geometry);
      for (std::int64_t asked = 0; asked <= geometry.head_dim / 2; ++asked) {
        SCOPED_TRACE(cat(name, ", ", asked, " of ", geometry.head_dim / 2, " pairs"));
        const auto rope = Selectors::instance().make(config_with_pairs(name, asked), "rope");
        rope->check(geometry, "rope");
        const KeptPairs kept = rope->select(0, geometry, &norms);
        EXPECT_EQ(rope->pairs(0, geometry), name == "all" ? geometry.head_dim / 2 : asked);
        ASSERT_EQ(std::ssize(kept), geometry.kv_heads);
        for (const auto& pairs : kept) {
          EXPECT_EQ(std::ssize(pairs), rope->pairs(0, geometry));
          EXPECT_EQ(std::adjacent_find(pairs.begin(), pairs.end(), std::greater_equal<>()), pairs.end());
          EXPECT_TRUE(pairs.empty() || (pairs.front() >= 0 && pairs.back() < geometry.head_dim / 2));
        }
      }
    }
  }
}

TEST(RopeSelectorContract, SelectsWithoutNormsUnlessItNeedsThem) {
  const HeadGeometry geometry{2, 4, 2, 16};
  for (const std::string& name : Selectors::instance().names()) {
    const auto rope = Selectors::instance().make(config_with_pairs(name, 2), "rope");
    if (rope->needs_norms()) continue;
    EXPECT_EQ(rope->select(1, geometry, nullptr).size(), 2U) << name;
  }
}

}  // namespace
}  // namespace mla
