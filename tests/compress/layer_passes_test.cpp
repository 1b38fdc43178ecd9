// Layers merged or sharing attention weights by what is measured of them.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/random.h"
#include "core/base/registry.h"
#include "core/compress/calibration/layer_information.h"
#include "core/compress/pass.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kSameStates = 1e-10;

class LayerPasses : public testing::Test {
 protected:
  LayerPasses() : source(test::tiny_decoder(four_layers())), ids(test::random_ids(source.spec(), 2, 14)) {
    const at::Tensor text = test::random_ids(source.spec(), 8, 20, 11);
    for (std::int64_t i = 0; i < text.size(0); ++i) {
      const std::int64_t* row = text.const_data_ptr<std::int64_t>() + i * text.size(1);
      rows.emplace_back(row, row + text.size(1));
    }
  }
  static ModelSpec four_layers() {
    UniformModel uniform = test::tiny_model("gqa");
    uniform.layers = 4;
    return uniform.spec();
  }
  Decoder after(const Json& config) const {
    const auto pass = Registry<Pass>::instance().make(config, "compress[0]");
    Decoder decoder = source.clone();
    Statistics statistics;
    if (!pass->requirements().empty()) statistics = calibrate(source, rows, pass->requirements(), {}, {});
    PassInputs inputs;
    inputs.statistics = &statistics;
    run_pass(config.at("name").get<std::string>(), *pass, decoder, inputs);
    return decoder;
  }
  std::string refusal(const Json& config) const {
    return test::message_of<ConfigError>(
        [&] { Registry<Pass>::instance().make(config, "compress[0]")->plan(source.spec()); });
  }
  void copy_layer(const std::string& from, const std::string& to) {
    TensorMap first;
    source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name.starts_with(from)) first[name.substr(from.size())] = tensor.clone();
    });
    source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name.starts_with(to)) tensor.copy_(first.at(name.substr(to.size())));
    });
  }
  Decoder source;
  at::Tensor ids;
  TokenRowList rows;
  at::NoGradGuard no_grad;
};

Json mka(std::int64_t merges, const Json& more) {
  Json config = {{"name", "mka"},
                 {"merges", merges},
                 {"points", 100},
                 {"similarity", {{"entropy_neighbours", 30}, {"noise_draws", 2}}}};
  config.update(more);
  return config;
}

TEST_F(LayerPasses, NothingMergedIsTheSourceModel) {
  for (const char* choose : {"similar", "last"})
    EXPECT_TRUE(at::equal(after(mka(0, {{"choose", choose}})).forward(ids), source.forward(ids)));
}

TEST_F(LayerPasses, DroppedLayersAreTheLast) {
  const Decoder dropped = after(mka(2, {{"choose", "last"}, {"ratio", "drop"}}));
  ASSERT_EQ(dropped.layers.size(), 2);
  const Decoder expected = after({{"name", "merge_layers"}, {"drop", {2, 3}}});
  EXPECT_TRUE(at::equal(dropped.forward(ids), expected.forward(ids)));
}

TEST_F(LayerPasses, MergedTwinsAreOneOfThem) {
  copy_layer("model.layers.2.", "model.layers.3.");
  const Decoder dropped = after({{"name", "merge_layers"}, {"drop", {3}}});
  for (const char* ratio : {"similarity", "equal"}) {
    const Decoder merged = after(mka(1, {{"choose", "last"}, {"ratio", ratio}}));
    EXPECT_LT(test::largest_difference(merged.forward(ids), dropped.forward(ids)), kSameStates) << ratio;
  }
}

TEST_F(LayerPasses, EqualSharesOfThreeAreHalvesOfHalves) {
  const Decoder merged = after(mka(2, {{"choose", "last"}, {"ratio", "equal"}}));
  const Decoder expected =
      after({{"name", "merge_layers"}, {"merge", {{{"layers", {1, 2, 3}}, {"weights", {0.5, 0.25, 0.25}}}}}});
  EXPECT_LT(test::largest_difference(merged.forward(ids), expected.forward(ids)), kSameStates);
}

TEST_F(LayerPasses, TheMostSimilarNeighboursAreMerged) {
  // The third layer adds next to nothing: what enters it enters the fourth.
  source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name.starts_with("model.layers.2.") && (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")))
      tensor.mul_(1e-9);
  });
  const Decoder merged = after(mka(1, {{"ratio", "drop"}}));
  ASSERT_EQ(merged.layers.size(), 3);
  const Decoder expected = after({{"name", "merge_layers"}, {"drop", {3}}});
  EXPECT_TRUE(at::equal(merged.forward(ids), expected.forward(ids)));
}

TEST_F(LayerPasses, MergingTooMuchIsRefused) {
  EXPECT_EQ(refusal(mka(4, Json::object())), "compress[0].merges = 4: must be less than the 4 layers");
  EXPECT_EQ(refusal(mka(-1, Json::object())), "compress[0].merges = -1: must not be negative");
  EXPECT_EQ(refusal(mka(1, {{"points", 60}})), "compress[0].points = 60: must be more than twice 30 (similarity)");
  EXPECT_EQ(refusal(mka(1, {{"similarity", {{"sigma", 0}}}})), "compress[0].similarity.sigma = 0: must be above 0");
  const auto pass = Registry<Pass>::instance().make(mka(1, Json::object()), "compress[0]");
  EXPECT_THAT(test::message_of<ConfigError>([&] { pass->plan(test::spec_with_attention("latent")); }),
              HasSubstr("cannot be averaged"));
  rows.resize(1);  // 20 tokens
  EXPECT_THAT(test::message_of<DataError>([&] { after(mka(1, Json::object())); }),
              HasSubstr("gives 20 tokens to compare layers by; more than 30 are needed"));
}

TEST_F(LayerPasses, SharingNothingIsTheSourceModel) {
  EXPECT_TRUE(at::equal(after({{"name", "shared_attention"}, {"count", 0}}).forward(ids), source.forward(ids)));
}

TEST_F(LayerPasses, LayersThatAreNamedShare) {
  const Decoder shared = after({{"name", "shared_attention"}, {"layers", {1, 3}}});
  const Decoder expected = after({{"name", "share_attention"}, {"layers", {1, 3}}});
  EXPECT_TRUE(at::equal(shared.forward(ids), expected.forward(ids)));
}

TEST_F(LayerPasses, TheSpanThatIsMostLikeTheLayerBeforeItShares) {
  // The third layer adds next to nothing and has the second one's queries and keys: so have the states before them,
  // nearly.
  source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    const bool writes = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
    if (name.starts_with("model.layers.1.") && writes) tensor.mul_(1e-9);
  });
  copy_layer("model.layers.1.self_attn.q_proj", "model.layers.2.self_attn.q_proj");
  copy_layer("model.layers.1.self_attn.k_proj", "model.layers.2.self_attn.k_proj");
  copy_layer("model.layers.1.input_layernorm", "model.layers.2.input_layernorm");
  const Decoder shared = after({{"name", "shared_attention"}, {"count", 1}});
  EXPECT_EQ(shared.spec().attention(2).kind(), "shared_attention");
  EXPECT_LT(test::largest_difference(shared.forward(ids), source.forward(ids)), 1e-6);
  // Keys of one of four layers: an eighth of the cache.
  EXPECT_EQ(8 * cached_elements(shared.spec()), 7 * cached_elements(source.spec()));
}

TEST_F(LayerPasses, SharingTooMuchIsRefused) {
  EXPECT_EQ(refusal({{"name", "shared_attention"}, {"count", 3}}),
            "compress[0].count = 3: at most 2 of 4 layers can reuse weights: the first computes them, and the last is "
            "kept");
  EXPECT_EQ(refusal({{"name", "shared_attention"}, {"count", -1}}), "compress[0].count = -1: must not be negative");
  EXPECT_EQ(refusal({{"name", "shared_attention"}, {"layers", {0}}}),
            "compress[0].layers[0] = 0: expected a layer from 1 to 3");
  const Json all = {{"name", "shared_attention"}, {"count", 3}, {"keep_last", false}};
  EXPECT_EQ(cached_elements(after(all).spec()) * 8, cached_elements(source.spec()) * 5);
}

TEST(LayerInformation, IsThatOfKnownDistributions) {
  RandomStream random(3, "points");
  const std::int64_t n = 400;
  at::Tensor x = at::empty({n}, at::kDouble), y = at::empty({n}, at::kDouble);
  const double correlation = 0.8;
  for (std::int64_t i = 0; i < n; ++i) {
    const double a = random.normal(), b = random.normal();
    x[i] = a;
    y[i] = correlation * a + std::sqrt(1 - correlation * correlation) * b;
  }
  LayerInformationOptions options;
  // Of two normal variables: -ln(1 - r^2) / 2.
  EXPECT_NEAR(mutual_information(x, y, options), -0.5 * std::log(1 - correlation * correlation), 0.1);
  EXPECT_NEAR(mutual_information(x, y, options), mutual_information(y, x, options), 1e-6);
  EXPECT_GT(mutual_information(x, x, options), 3);
  EXPECT_LT(mutual_information(x, y.flip({0}), options), 0.1);
  // Equally spaced points on a line: the k-th nearest of n - 2k inner ones is k / 2 steps away.
  const at::Tensor line = at::arange(100, at::kDouble).unsqueeze(1) / 100;
  EXPECT_NEAR(neighbour_entropy(line, 2), std::log(0.01 / 0.02), 0.02);
}

TEST(LayerInformation, GivesTheFirstLayerHalfToThreeQuarters) {
  RandomStream random(5, "similarities");
  for (int i = 0; i < 50; ++i) {
    at::Tensor similarity = at::empty({4, 4}, at::kDouble);
    for (std::int64_t k = 0; k < 16; ++k) similarity.flatten()[k] = 0.01 + random.uniform();
    const double first = fusion_ratio(similarity, 1, 2), second = fusion_ratio(similarity, 2, 1);
    EXPECT_GT(first, 0.5);
    EXPECT_LT(first, 1 / (1 + std::exp(-1.0)));
    EXPECT_GT(first + second, 1);  // the earlier one always outweighs
  }
  EXPECT_NEAR(fusion_ratio(at::ones({3, 3}, at::kDouble), 0, 1), 0.6224593312018546, 1e-12);
}

TEST(LayerInformation, RanksCountFromZero) {
  const at::Tensor points = at::tensor({3.0, -1.0, 7.0, 0.5}, at::kDouble).view({4, 1});
  EXPECT_TRUE(at::equal(coordinate_ranks(points), at::tensor({0.5, 0.0, 0.75, 0.25}, at::kDouble).view({4, 1})));
}

}  // namespace
}  // namespace mla
