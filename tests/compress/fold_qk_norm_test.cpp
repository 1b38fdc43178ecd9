// QK-norm folded into linear maps: exact where norms do not differ, nearest otherwise, and what it loses is told.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/compress/pass.h"
#include "tests/support/errors.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kSameKeys = 1e-9, kSameModel = 1e-7;
constexpr std::int64_t kRows = 8, kLength = 20;

Json fold(const char* method) { return {{"name", "fold_qk_norm"}, {"method", method}, {"damping", 1e-9}}; }

/// By hand: how far the keys of the first layer are from the source's, positions 0 left out.
double key_error(const Decoder& decoder, const Decoder& source, const TokenRowList& rows) {
  at::Tensor wanted, input;
  LayerWalk walk(source, rows, {});
  walk.advance({Tap::kAttentionInput, Tap::kKey},
               [&](std::size_t, Tap tap, const at::Tensor& tensor) { (tap == Tap::kKey ? wanted : input) = tensor; });
  at::Tensor found;
  const Observer observer{{Tap::kKey}, [&](Tap, std::int64_t, const at::Tensor& tensor) { found = tensor; }};
  ForwardContext context = decoder.context(input.size(1));
  context.observer = &observer;
  decoder.layers[0].attention->forward(input, context);
  const at::Tensor missed = (found - wanted).slice(2, 1);
  return (missed.norm() / wanted.slice(2, 1).norm()).item<double>();
}

class FoldedNorms : public testing::TestWithParam<std::string> {
 protected:
  /// Each head's norm; with biases; weights that are counted from one (Gemma 3); the norm of all heads (OLMo 2).
  FoldedNorms() {
    UniformModel model = test::tiny_model("qk_norm");
    HeadFields& heads = model.heads;
    if (GetParam() == "biases") heads.query_bias = heads.key_bias = heads.value_bias = heads.output_bias = true;
    if (GetParam() == "from_one") model.model.norms_add_one = true;
    if (GetParam() == "whole") heads.qk_norm_whole = true;
    spec = model.spec();
  }
  ModelSpec spec;
};

TEST_P(FoldedNorms, AreExactWhereAllAreAlike) {
  spec.norm_epsilon = 1e6;  // so large that the norms of heads no longer count
  const Decoder source = test::tiny_decoder(spec);
  const TokenRowList rows = test::random_rows(spec, kRows, kLength);
  const at::Tensor ids = test::random_ids(spec, 2, kLength), wanted = source.forward(ids);
  for (const char* method : {"regression", "mean"}) {
    PassReport report;
    const Decoder decoder = test::after_pass(source, fold(method), rows, &report);
    EXPECT_FALSE(decoder.spec().attention(1).heads()->qk_norm);
    EXPECT_LT(test::largest_difference(decoder.forward(ids), wanted) / wanted.abs().max().item<double>(), kSameModel);
    EXPECT_LT(report.layers[0].error.key, 1e-5);
    EXPECT_LT(report.layers[0].error.joint, 1e-3);
  }
}

TEST_P(FoldedNorms, AreNearestByRegressionAndTellWhatTheyLose) {
  const Decoder source = test::tiny_decoder(spec);
  const TokenRowList rows = test::random_rows(spec, kRows, kLength);
  PassReport regression, mean;
  const Decoder near = test::after_pass(source, fold("regression"), rows, &regression);
  const Decoder far = test::after_pass(source, fold("mean"), rows, &mean);
  EXPECT_NEAR(regression.layers[0].error.key, key_error(near, source, rows), kSameKeys);
  EXPECT_NEAR(mean.layers[0].error.key, key_error(far, source, rows), kSameKeys);
  EXPECT_LT(regression.layers[0].error.key, mean.layers[0].error.key);
  EXPECT_GT(regression.layers[0].error.joint, 0);
  // One number for each head: no other number is better.
  for (const double factor : {0.98, 1.02}) {
    Decoder other = far.clone();
    other.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name.starts_with("k_proj")) tensor = tensor * factor;
    });
    EXPECT_GT(key_error(other, source, rows), mean.layers[0].error.key);
  }
}
INSTANTIATE_TEST_SUITE_P(Norms, FoldedNorms, testing::Values("each", "biases", "from_one", "whole"),
                         [](const auto& kind) { return kind.param; });

TEST(FoldQkNorm, MakesModelsThatEveryConversionTakes) {
  const Decoder source = test::tiny_decoder(test::tiny_spec("qk_norm"));
  const TokenRowList rows = test::random_rows(source.spec(), kRows, kLength);
  const Decoder folded = test::after_pass(source, fold("regression"), rows);
  test::expect_whole(folded, "qk_norm", test::random_ids(source.spec(), 2, 9));
  EXPECT_THAT(test::refusal_of({{"name", "mkla"}, {"cached", 8}}, source.spec()), testing::HasSubstr("QK-norm"));
  const Decoder converted = test::after_pass(folded, {{"name", "mkla"}, {"cached", 8}, {"refit", false}}, rows);
  EXPECT_EQ(cached_elements(converted.spec()), 2 * 8);
  // The source's own norms are what layers are then fitted to.
  Decoder fitted = converted.clone();
  PassInputs inputs;
  inputs.rows = &rows;
  inputs.source = &source;
  const auto fit = Registry<Pass>::instance().make(
      {{"name", "fit_layers"}, {"steps", 40}, {"learning_rate", 1e-2}, {"held_out", 0}}, "compress[2]");
  for (const LayerReport& layer : run_pass("fit_layers", *fit, fitted, inputs).layers)
    EXPECT_LT(layer.fit->after, layer.fit->before);
}

TEST(FoldQkNorm, IsRefusedWhereThereIsNothingToFold) {
  EXPECT_EQ(
      test::refusal_of({{"name", "fold_qk_norm"}}, test::tiny_spec("gqa")),
      "compress[0]: no layer normalises queries and keys (QK-norm), or other passes came before; leave it out, or "
      "list it first");
  const auto refusal = [](const Json& config) { return test::message_of<ConfigError>([&] { test::pass_of(config); }); };
  EXPECT_EQ(refusal({{"name", "fold_qk_norm"}, {"damping", 0}}), "compress[0].damping = 0: must be more than 0");
  EXPECT_EQ(refusal({{"name", "fold_qk_norm"}, {"skip_positions", -1}}),
            "compress[0].skip_positions = -1: must not be negative");
  EXPECT_EQ(refusal({{"name", "fold_qk_norm"}, {"error_rows", 0}}), "compress[0].error_rows: 0 is less than 1");
  const Decoder source = test::tiny_decoder(test::tiny_spec("qk_norm"));
  EXPECT_EQ(test::message_of<DataError>([&] {
              test::after_pass(source, {{"name", "fold_qk_norm"}}, test::random_rows(source.spec(), 3, 1));
            }),
            "compress[0]: needs calibration rows of at least 2 tokens");
}

}  // namespace
}  // namespace mla
