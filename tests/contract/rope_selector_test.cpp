// What every partial-RoPE strategy must do, over all registered names.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/requirement.h"
#include "core/partial_rope/key_rotation.h"

namespace mla {
namespace {

using ::testing::ElementsAre;
using Strategies = Registry<RotationStrategy>;

constexpr double kSameLogit = 1e-11;

const std::vector<HeadGeometry> kGeometries = {{2, 4, 2, 16}, {1, 3, 3, 64}, {1, 8, 1, 8}};

/// Some statistics of each name that a strategy asks for.
LayerMeasures some_measures(const RotationStrategy& strategy, const HeadGeometry& geometry) {
  LayerMeasures measures;
  const auto generator = at::detail::createCPUGenerator(5);
  for (const std::string& name : strategy.measures()) {
    const std::optional<Requirement> requirement = Requirement::parse(name);
    EXPECT_TRUE(requirement) << name;
    const std::int64_t heads = requirement->tap == Tap::kQuery ? geometry.heads : geometry.kv_heads;
    if (requirement->reducer == "pair_norms") {
      measures[name] = at::rand({heads, geometry.head_dim / 2}, generator, at::kDouble) + 0.5;
    } else {
      const std::int64_t width = heads * geometry.head_dim;
      const at::Tensor rows = at::randn({3 * width, width}, generator, at::kDouble);
      measures[name] = at::mm(rows.t(), rows) / (3 * width);
    }
  }
  return measures;
}

/// Options that give a strategy a count of pairs, where it takes one.
Json config_with_pairs(const std::string& name, std::int64_t pairs) {
  Json config{{"name", name}};
  if (Strategies::instance().find(name, "rope").defaults.contains("pairs")) config["pairs"] = pairs;
  if (name == "explicit") {
    config["kept"] = Json::array();
    for (std::int64_t pair = 0; pair < pairs; ++pair) config["kept"].push_back(pair);
  }
  return config;
}

TEST(RotationContract, Names) {
  EXPECT_THAT(Strategies::instance().names(),
              ElementsAre("all", "comb", "explicit", "high", "low", "rorope", "two_norm", "uniform"));
}

TEST(RotationContract, KeepsAsManyAscendingPairsAsAnnounced) {
  for (const std::string& name : Strategies::instance().names()) {
    const bool counts = config_with_pairs(name, 1).size() > 1;
    for (const HeadGeometry& geometry : kGeometries) {
      const std::int64_t available = geometry.head_dim / 2;
      for (std::int64_t asked = 0; asked <= available; ++asked) {
        SCOPED_TRACE(cat(name, ", ", asked, " of ", available, " pairs"));
        const auto rope = Strategies::instance().make(config_with_pairs(name, asked), "rope");
        rope->check(geometry, "rope");
        const RotationShape shape = rope->shape(0, geometry);
        const KeyRotation rotation = rope->rotation(0, geometry, some_measures(*rope, geometry));
        EXPECT_EQ(shape.pairs, counts ? asked : available);
        ASSERT_EQ(std::ssize(rotation.kept), shape.shared ? 1 : geometry.kv_heads);
        for (const auto& pairs : rotation.kept) {
          EXPECT_EQ(std::ssize(pairs), shape.pairs);
          EXPECT_EQ(std::adjacent_find(pairs.begin(), pairs.end(), std::greater_equal<>()), pairs.end());
          EXPECT_TRUE(pairs.empty() || (pairs.front() >= 0 && pairs.back() < available));
        }
        EXPECT_EQ(rotation.picks(), !rope->mixes_dims());
        if (rotation.picks()) {
          EXPECT_EQ(shape.content_width, geometry.head_dim - 2 * shape.pairs);
        }
        if (!counts) break;
      }
    }
  }
}

/// At one position nothing turns, so that the parts of a logit add up to what it was, whatever is kept.
TEST(RotationContract, MapsLeaveLogitsAsTheyAreWithoutPositions) {
  const std::vector<Json> mixing = {{{"name", "rorope"}},
                                    {{"name", "rorope"}, {"fold", 4}},
                                    {{"name", "rorope"}, {"fold", 2}, {"collapse", 2}},
                                    {{"name", "rorope"}, {"fold", 4}, {"collapse", 2}}};
  std::size_t strategies = 0;
  for (const std::string& name : Strategies::instance().names()) {
    strategies += Strategies::instance().make(config_with_pairs(name, 1), "rope")->mixes_dims();
  }
  EXPECT_EQ(strategies, 1) << "every strategy that mixes dims is in the list above";
  for (const Json& config : mixing) {
    for (const HeadGeometry& geometry : kGeometries) {
      SCOPED_TRACE(config.dump());
      const auto rope = Strategies::instance().make(config, "rope");
      rope->check(geometry, "rope");
      const RotationShape shape = rope->shape(0, geometry);
      const KeyRotation rotation = rope->rotation(0, geometry, some_measures(*rope, geometry));
      const std::int64_t rotated = 2 * shape.pairs, width = geometry.head_dim,
                         group = geometry.heads / geometry.kv_heads;
      ASSERT_EQ(rotation.query.sizes(), (at::IntArrayRef{geometry.heads, rotated + shape.content_width, width}));
      ASSERT_EQ(rotation.rope_key.size(0), std::ssize(rotation.kept) * rotated);
      ASSERT_EQ(rotation.content.size(0), geometry.kv_heads * shape.content_width);
      const auto generator = at::detail::createCPUGenerator(9);
      const at::Tensor keys = at::randn({geometry.kv_heads * width}, generator, at::kDouble);
      const at::Tensor rope_key = at::mv(rotation.rope_key, keys).view({-1, rotated});
      const at::Tensor content = at::mv(rotation.content, keys).view({geometry.kv_heads, shape.content_width});
      for (std::int64_t head = 0; head < geometry.heads; ++head) {
        const std::int64_t kv_head = head / group;
        const at::Tensor query = at::randn({width}, generator, at::kDouble),
                         mapped = at::mv(rotation.query[head], query);
        const at::Tensor key = at::cat({rope_key[shape.shared ? 0 : kv_head], content[kv_head]});
        EXPECT_NEAR(at::dot(mapped, key).item<double>(),
                    at::dot(query, keys.narrow(0, kv_head * width, width)).item<double>(), kSameLogit);
      }
    }
  }
}

TEST(RotationContract, NeedsNoMeasuresThatItDoesNotName) {
  const HeadGeometry geometry{2, 4, 2, 16};
  for (const std::string& name : Strategies::instance().names()) {
    const auto rope = Strategies::instance().make(config_with_pairs(name, 2), "rope");
    if (rope->measures().empty()) {
      EXPECT_EQ(rope->rotation(1, geometry, {}).kept.size(), 2U) << name;
    } else {
      EXPECT_ANY_THROW(rope->rotation(1, geometry, {})) << name;
    }
  }
}

}  // namespace
}  // namespace mla
