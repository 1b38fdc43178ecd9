// Queries of mean-key layers fitted to the source's logits: nothing else changes, and the attention comes nearer.
#include "core/compress/mean_key/score_fit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/attention/attention_weights.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr std::int64_t kScoreRows = 24, kScoreLength = 20;

std::map<Tap, at::Tensor> first_layer(const Decoder& decoder, const at::Tensor& input, std::vector<Tap> taps) {
  const at::NoGradGuard off;
  std::map<Tap, at::Tensor> seen;
  const Observer observer{std::move(taps), [&](Tap tap, std::int64_t, const at::Tensor& x) { seen[tap] = x; }};
  ForwardContext context = decoder.context(input.size(1));
  context.turn(rope_use(*decoder.layers[0].attention->spec()));
  context.observer = &observer;
  decoder.layers[0].attention->forward(input, context);
  return seen;
}

class FittedScores : public testing::TestWithParam<std::string> {
 protected:
  FittedScores()
      : source(test::tiny_decoder(test::tiny_spec(GetParam()))),
        rows(test::random_rows(source.spec(), kScoreRows, kScoreLength)) {
    LayerWalk(source, rows, {}).advance(Tap::kAttentionInput, [&](std::size_t, const at::Tensor& x) { input = x; });
  }
  Decoder converted(const Json& options) const {
    Json pass = {{"name", "mkla"}, {"cached", 10}, {"pairs", 2}, {"refit", false}};
    pass.update(options);
    return test::after_pass(source, pass, rows);
  }
  /// Of the first layer, by hand: the weighted variance of logits' errors, for every query.
  double loss(const Decoder& decoder) const {
    const HeadFields heads = *source.spec().attention(0).heads();
    const double scale = softmax_scale(source.spec(), heads);
    const std::vector<Tap> taps = {Tap::kQueryRotated, Tap::kKeyRotated, Tap::kAttentionWeights};
    auto theirs = first_layer(source, input, taps);
    auto ours = first_layer(decoder, input, taps);
    const auto logits = [&](std::map<Tap, at::Tensor>& seen) {
      const at::Tensor keys = seen[Tap::kKeyRotated];
      return at::matmul(seen[Tap::kQueryRotated],
                        keys.repeat_interleave(heads.heads / keys.size(1), 1).transpose(2, 3)) *
             scale;
    };
    const at::Tensor& p = theirs[Tap::kAttentionWeights];
    const at::Tensor error = logits(theirs) - logits(ours), mean = (p * error).sum(-1, true);
    return (p * (error - mean).square()).sum().item<double>();
  }
  Decoder source;
  TokenRowList rows;
  at::Tensor input;
};

TEST_P(FittedScores, ComeNearerToTheSources) {
  for (const char* layout : {"dual", "std", "plain"}) {
    SCOPED_TRACE(layout);
    const Decoder before = converted({{"layout", layout}});
    const Json all = {{"stride", 1}, {"damping", 1e-6}, {"rows", 0}};
    Json few = all, many = all;
    few["iterations"] = 2;
    many["iterations"] = 200;
    const Decoder near = converted({{"layout", layout}, {"scores", few}});
    const Decoder best = converted({{"layout", layout}, {"scores", many}});
    EXPECT_LT(loss(near), loss(before));
    EXPECT_LT(loss(best), loss(near));
    // Nothing is better than the best.
    for (const double factor : {0.99, 1.01}) {
      Decoder other = best.clone();
      other.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
        if (name == "q_up_proj.weight") tensor = tensor * factor;
      });
      EXPECT_GT(loss(other), loss(best));
    }
    // All else is as it was.
    std::map<std::string, at::Tensor> found;
    before.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& x) { found[name] = x; });
    best.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& x) {
      EXPECT_EQ(at::equal(x, found[name]), name != "q_up_proj.weight") << name;
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FittedScores, testing::Values("mha", "gqa", "biases", "window", "yarn"),
                         [](const auto& kind) { return kind.param; });

TEST(FittedScoresMemory, LongRowsAreFewer) {
  const ModelSpec spec = test::tiny_spec("mha");
  const auto heads = spec.attention(0).heads()->heads;
  const TokenRowList rows = test::random_rows(spec, 6, 20);
  const ScoreFitOptions options{.rows = 5, .stride = 8};
  // Three queries of a row see twenty keys: a logit and a weight each.
  const double of_row = 16.0 * 3 * 20 * static_cast<double>(heads);
  EXPECT_EQ(affordable_rows(spec, rows, options, 5 * of_row).size(), 5u);
  EXPECT_EQ(affordable_rows(spec, rows, options, 3 * of_row), TokenRowList(rows.begin(), rows.begin() + 3));
  EXPECT_EQ(affordable_rows(spec, rows, options, 1).size(), 1u);
}

}  // namespace
}  // namespace mla
