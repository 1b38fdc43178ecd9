// How long layers are fitted behind a conversion: by what it costs, whoever computes it.
#include "experiments/automatic/layer_fits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experiments/plan/pass_list.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr std::int64_t kLength = 256;

/// A model of `layers` layers, `hidden` wide.
ModelSpec of_size(std::int64_t layers, std::int64_t hidden) {
  UniformModel model = test::tiny_model("gqa");
  model.layers = layers;
  model.model.hidden = hidden;
  model.heads.heads = hidden / 64;
  model.heads.kv_heads = hidden / 64;
  model.heads.head_dim = model.model.rope_dim = 64;
  return model.spec();
}

TEST(LayerFits, AreShorterWhereStepsCostMoreAndNoneWhereTheyCostTooMuch) {
  const LayerFits small = plan_layer_fits(of_size(2, 128), kLength, {});
  EXPECT_EQ(small.steps, 300);
  EXPECT_THAT(small.rates, testing::ElementsAre(1e-3, 3e-3));
  const LayerFits larger = plan_layer_fits(of_size(30, 576), kLength, {});
  EXPECT_GE(larger.steps, 40);
  EXPECT_LT(larger.steps, 300);
  EXPECT_THAT(larger.rates, testing::ElementsAre(1e-3));
  const LayerFits large = plan_layer_fits(of_size(32, 4096), kLength, {});
  EXPECT_EQ(large.steps, 0);
  EXPECT_TRUE(large.rates.empty());
  EXPECT_THAT(large.why, testing::HasSubstr("--fit-steps"));
  EXPECT_LT(plan_layer_fits(of_size(30, 576), 2 * kLength, {}).steps, larger.steps);
}

TEST(LayerFits, FollowWhatIsStated) {
  const LayerFits none = plan_layer_fits(of_size(2, 128), kLength, 0);
  EXPECT_TRUE(none.rates.empty());
  EXPECT_EQ(none.why, "no steps were wanted");
  EXPECT_EQ(plan_layer_fits(of_size(2, 128), kLength, 7).steps, 7);
  const LayerFits large = plan_layer_fits(of_size(32, 4096), kLength, 50);
  EXPECT_EQ(large.steps, 50);
  EXPECT_THAT(large.rates, testing::ElementsAre(1e-3));
}

TEST(LayerFits, ArePassesOfAConfig) {
  const ModelSpec spec = of_size(2, 128);
  const Json passes = plan_layer_fits(spec, kLength, 50).passes(1e-3);
  EXPECT_EQ(planned_spec(plan_passes(passes, "compress", spec), spec), spec);
  EXPECT_EQ(passes[0]["name"], "fit_layers");
  EXPECT_EQ(passes[0]["steps"], 50);
  EXPECT_EQ(passes[0]["learning_rate"], 1e-3);
}

}  // namespace
}  // namespace mla
