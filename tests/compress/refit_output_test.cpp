// Output projections fitted anew, and layers measured while the ones before are converted.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/compress/pass.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kSameModel = 1e-10;

std::unique_ptr<Pass> make_pass(const Json& config) { return Registry<Pass>::instance().make(config, "compress[0]"); }

TokenRowList some_rows(const ModelSpec& spec) {
  const at::Tensor ids = test::random_ids(spec, 6, 20, 11);
  TokenRowList rows;
  for (std::int64_t i = 0; i < ids.size(0); ++i) {
    const std::int64_t* row = ids.const_data_ptr<std::int64_t>() + i * ids.size(1);
    rows.emplace_back(row, row + ids.size(1));
  }
  return rows;
}

class Refit : public testing::TestWithParam<std::string> {
 protected:
  Refit() : source(test::tiny_decoder(test::tiny_spec(GetParam()))), rows(some_rows(source.spec())) {
    inputs.arithmetic = at::kDouble;
    inputs.rows = &rows;
    inputs.source = &source;
  }
  bool qk_norm() const { return source.spec().attention(0).heads()->qk_norm; }
  Json conversion(const char* inputs_of) const {
    Json config = {{"name", "mha2mla"},
                   {"rope", {{"name", "two_norm"}, {"pairs", 1}}},
                   {"low_rank", {{"name", qk_norm() ? "value_svd" : "joint_svd"}, {"d_kv", 3}, {"metric", "outputs"}}}};
    config["inputs"] = inputs_of;
    return config;
  }
  Decoder converted(const Json& config) {
    const auto pass = make_pass(config);
    Decoder decoder = source.clone();
    PassInputs given = inputs;
    Statistics statistics = calibrate(source, rows, pass->requirements(), {}, {});
    given.statistics = &statistics;
    run_pass("mha2mla", *pass, decoder, given);
    return decoder;
  }
  /// Squared distance of every layer's attention output, on its own inputs, from the source's.
  std::vector<double> distances(const Decoder& decoder) const {
    std::vector<double> all;
    LayerWalk theirs(source, rows, {}), ours(decoder, rows, {});
    for (; !ours.done(); ours.advance(), theirs.advance()) {
      std::vector<at::Tensor> wanted;
      double sum = 0;
      theirs.observe(Tap::kAttentionOutput, [&](std::size_t, const at::Tensor& output) { wanted.push_back(output); });
      ours.observe(Tap::kAttentionOutput, [&](std::size_t batch, const at::Tensor& output) {
        sum += (output - wanted[batch]).narrow(1, 1, output.size(1) - 1).square().sum().item<double>();
      });
      all.push_back(sum);
    }
    return all;
  }

  Decoder source;
  TokenRowList rows;
  PassInputs inputs;
};

/// Attention need not run again where it is known what it adds.
TEST_P(Refit, AWalkBehindKnownAttentionIsTheWalk) {
  const Decoder decoder = converted(conversion("found"));
  for (LayerWalk whole(decoder, rows, {}), half(decoder, rows, {}); !whole.done();) {
    ASSERT_FALSE(half.hands_on());
    std::vector<at::Tensor> attention;
    half.observe(Tap::kAttentionOutput, [&](std::size_t, const at::Tensor& output) { attention.push_back(output); });
    whole.advance();
    half.advance_behind(attention);
    ASSERT_EQ(half.layer(), whole.layer());
    for (std::size_t i = 0; i < whole.states().size(); ++i)
      EXPECT_TRUE(at::equal(half.states()[i], whole.states()[i])) << "layer " << whole.layer();
  }
}

TEST(LayerWalk, TellsOfLayersThatHandAttentionOn) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  const TokenRowList rows = some_rows(decoder.spec());
  run_pass("share_attention", *make_pass({{"name", "share_attention"}, {"layers", {1}}}), decoder, {});
  LayerWalk walk(decoder, rows, {});
  EXPECT_TRUE(walk.hands_on());
  EXPECT_THROW(walk.advance_behind({}), std::logic_error);
  // A tap of attention alone runs, and so does the layer that reads.
  int seen = 0;
  walk.observe(Tap::kAttentionContext, [&](std::size_t, const at::Tensor&) { ++seen; });
  walk.advance();
  EXPECT_FALSE(walk.hands_on());
  walk.observe(Tap::kAttentionOutput, [&](std::size_t, const at::Tensor&) { ++seen; });
  EXPECT_EQ(seen, 2 * static_cast<int>(walk.states().size()));
}

TEST_P(Refit, LeavesTheSourceItself) {
  Decoder decoder = source.clone();
  run_pass("refit_output", *make_pass({{"name", "refit_output"}}), decoder, inputs);
  const at::Tensor ids = test::random_ids(source.spec(), 2, 20);
  EXPECT_LT(test::largest_difference(decoder.forward(ids), source.forward(ids)), kSameModel);
}

TEST_P(Refit, BringsEachLayerNearerToTheSource) {
  Decoder decoder = converted(conversion("found"));
  const ModelSpec before = decoder.spec();
  const std::vector<double> far = distances(decoder);
  run_pass("refit_output", *make_pass({{"name", "refit_output"}, {"damping", 1e-8}}), decoder, inputs);
  EXPECT_EQ(decoder.spec(), before);
  const std::vector<double> near = distances(decoder);
  // The first layer gets the same inputs as before, so that least squares cannot be worse there.
  EXPECT_LT(near.front(), far.front());
  EXPECT_GT(near.front(), 0);
  // What is fitted can not be fitted better: the projection with another one added to it is farther away.
  Decoder other = decoder.clone();
  other.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name == "o_proj.weight") tensor = tensor + 1e-3 * at::ones_like(tensor);
  });
  EXPECT_GT(distances(other).front(), near.front());
}

TEST_P(Refit, LayersAreMeasuredOnWhatTheOnesBeforeBecame) {
  const Decoder found = converted(conversion("found")), walked = converted(conversion("converted"));
  const auto latent_of = [](const Decoder& decoder, std::size_t layer) {
    at::Tensor down;
    decoder.layers[layer].attention->clone()->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name == "kv_down_proj.weight") down = tensor;
    });
    return down;
  };
  EXPECT_LT(test::largest_difference(latent_of(found, 0), latent_of(walked, 0)), kSameModel)
      << "no layer before the first one is converted";
  EXPECT_GT(test::largest_difference(latent_of(found, 1), latent_of(walked, 1)), 1e-6);
  // By hand: the second layer of a model whose first one is converted already.
  Decoder half = source.clone();
  half.replace_attention(0, found.layers[0].attention->clone());
  const Requirements wanted = make_pass(conversion("found"))->requirements();
  const Statistics expected = calibrate(half, rows, wanted, {}, {});
  Statistics statistics = calibrate(source, rows, wanted, {}, {});
  for (auto& [key, value] : statistics.values) {
    if (key.second == 1) value = expected.values.at(key);
  }
  PassInputs given = inputs;
  given.statistics = &statistics;
  Decoder by_hand = source.clone();
  run_pass("mha2mla", *make_pass(conversion("found")), by_hand, given);
  const at::Tensor ids = test::random_ids(source.spec(), 2, 20);
  EXPECT_LT(test::largest_difference(by_hand.forward(ids), walked.forward(ids)), kSameModel);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Refit, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(Walking, IsRefusedWhereItMeansNothing) {
  const auto refusal = [](const Json& config) { return test::message_of<ConfigError>([&] { make_pass(config); }); };
  EXPECT_EQ(refusal({{"name", "mha2mla"}, {"rope", {{"name", "high"}}}, {"inputs", "converted"}}),
            "compress[0].inputs = converted: nothing here is measured on data; leave it out");
  EXPECT_THAT(refusal({{"name", "low_rank"},
                       {"low_rank", {{"name", "joint_svd"}, {"metric", "outputs"}}},
                       {"allocate", {{"name", "energy"}}},
                       {"inputs", "converted"}}),
              testing::HasSubstr("decides on widths after it has measured all layers"));
  EXPECT_EQ(refusal({{"name", "refit_output"}, {"damping", 0}}), "compress[0].damping = 0: must be more than 0");
}

TEST(RefitOutput, NeedsAsManyLayersAsTheSource) {
  const Decoder source = test::tiny_decoder(test::tiny_spec("gqa"));
  Decoder decoder = source.clone();
  decoder.remove_layers({1});
  const TokenRowList rows = some_rows(source.spec());
  PassInputs inputs;
  inputs.rows = &rows;
  inputs.source = &source;
  EXPECT_EQ(test::message_of<ConfigError>([&] {
              run_pass("refit_output", *make_pass({{"name", "refit_output"}}), decoder, inputs);
            }),
            "compress[0]: the model has 1 layers and its source 2; layers are fitted one to one");
}

}  // namespace
}  // namespace mla
