// A model whose weights stand where the host cannot read. PyTorch's "meta" device has no memory at all: a kernel or a
// loop of the host that looks at a weight, an activation or a cache fails, and so does whatever waits for a value.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <set>

#include "core/base/registry.h"
#include "core/compress/calibration/gathering.h"
#include "core/compress/pass.h"
#include "core/ops/causal_attention.h"
#include "core/ops/feed_forward.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rotary_embedding.h"
#include "core/ops/softmax_divergence.h"
#include "core/ops/softmax_loss.h"
#include "core/ops/thin_linear.h"
#include "core/train/adamw.h"
#include "core/train/loss.h"
#include "core/train/trainable.h"
#include "tests/support/attention_models.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

const Placement kNowhere = Placement::in(at::kFloat, at::kMeta);

/// A kind of attention in a kind of model.
using KindOfModel = std::pair<std::string, std::string>;

std::vector<KindOfModel> kinds_of_models() {
  std::vector<KindOfModel> all;
  for (const std::string& attention : Registry<AttentionSpec>::instance().names()) {
    for (const char* tiny : {"gqa", "biases"}) all.emplace_back(attention, tiny);
  }
  for (const char* tiny : {"qk_norm", "window"}) all.emplace_back("grouped_query", tiny);
  return all;
}

class OtherDevice : public testing::TestWithParam<KindOfModel> {
 protected:
  static Decoder on_host() {
    const auto& [attention, tiny] = GetParam();
    const bool usual = attention == "grouped_query";
    return test::tiny_decoder(usual ? test::tiny_spec(tiny) : test::spec_with_attention(attention, tiny), at::kFloat);
  }
  static Decoder elsewhere() {
    Decoder model = on_host();
    model.move_to(kNowhere);
    return model;
  }
  static at::Tensor ids(const Decoder& decoder, std::int64_t batch, std::int64_t length) {
    return test::random_ids(decoder.spec(), batch, length).to(decoder.device());
  }
};

void expect_there(const at::Tensor& tensor, at::IntArrayRef sizes) {
  EXPECT_TRUE(tensor.is_meta());
  EXPECT_EQ(tensor.sizes(), sizes);
}

/// Where each document of a row of seven tokens begins.
at::Tensor documents() { return at::tensor({0, 0, 0, 3, 3, 5, 5, 0, 1, 1, 1, 1, 1, 6}, at::kLong).view({2, 7}); }

TEST_P(OtherDevice, RunsForward) {
  const at::NoGradGuard no_grad;
  const Decoder model = elsewhere();
  const std::int64_t vocabulary = model.spec().vocabulary;
  expect_there(model.forward(ids(model, 2, 7)), {2, 7, vocabulary});
  expect_there(model.forward(ids(model, 1, 1)), {1, 1, vocabulary});
  expect_there(model.hidden_states(ids(model, 2, 7), documents().to(at::kMeta)), {2, 7, model.spec().hidden});
}

/// Prompts, single tokens, sequences of different lengths, sequences that leave, forks and empty caches.
TEST_P(OtherDevice, DecodesThroughACache) {
  const c10::InferenceMode inference;
  for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
    Decoder model = elsewhere(), host = on_host();
    if (path == DecodePath::kAuto) model.prepare_decode();
    const std::int64_t vocabulary = model.spec().vocabulary;
    DecoderCache cache = model.make_cache(2), same = host.make_cache(2);
    cache.reserve(9);
    const auto feed = [&](std::int64_t length, const std::vector<std::int64_t>& counts) {
      expect_there(model.forward_cached(ids(model, 2, length), cache, path, counts), {2, vocabulary});
      host.forward_cached(ids(host, 2, length), same, path, counts);
    };
    feed(5, {});
    feed(1, {});
    feed(3, {3, 1});
    feed(1, {});
    EXPECT_EQ(cache.lengths(), same.lengths());
    EXPECT_EQ(cache.bytes(), same.bytes());
    EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
    DecoderCache selected = cache.select(at::tensor({1}, at::kLong)), forked = cache.fork(0, 3);
    expect_there(model.forward_cached(ids(model, 1, 1), selected, path), {1, vocabulary});
    expect_there(model.forward_cached(ids(model, 3, 2), forked, path), {3, vocabulary});
    cache.reset(1);
    feed(1, {});
  }
}

TEST_P(OtherDevice, ShowsWhatPassesAndAddsItUp) {
  const c10::InferenceMode inference;
  const Decoder model = elsewhere();
  Observer observer;
  for (const auto& [name, tap] : enum_names(Tap::kQuery)) observer.taps.push_back(tap);
  std::set<Tap> seen;
  observer.see = [&](Tap tap, std::int64_t, const at::Tensor& tensor) {
    EXPECT_TRUE(tensor.is_meta());
    seen.insert(tap);
  };
  model.observe(ids(model, 2, 7), observer);
  EXPECT_TRUE(seen.contains(Tap::kLayerOutput));
  Requirement cross{Tap::kLayerInput, "cross_moment"};
  cross.with = Tap::kLayerOutput;
  const Requirements wanted = {kQueryPairNorms,
                               kKeyPairNorms,
                               kInputMoment,
                               cross,
                               {Tap::kQuery, "head_moments"},
                               {Tap::kLayerOutput, "mean"},
                               {Tap::kLayerOutput, "samples"}};
  Gathering gathering(wanted);
  for (int batch = 0; batch < 2; ++batch) {
    model.observe(ids(model, 2, 7), gathering.observer());
    gathering.end_batch();
  }
  Statistics statistics;
  statistics.tokens = 28;
  EXPECT_ANY_THROW(gathering.finish(statistics)) << "statistics are brought to the host, and here there is nothing";
}

/// The graph of a training step and the optimizer's step; the loss itself is a number, for which one waits.
TEST_P(OtherDevice, Trains) {
  for (const bool checkpointed : {false, true}) {
    Decoder model = elsewhere();
    model.checkpoint_activations = checkpointed;
    TrainableParameters parameters(model, "all", "train.trainable");
    const at::Tensor hidden = model.hidden_states(ids(model, 2, 7), documents().to(at::kMeta));
    const at::Tensor logits = model.logits(hidden);
    logits.backward(at::zeros_like(logits));
    for (const auto& [name, parameter] : parameters.named()) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      expect_there(parameter.grad(), parameter.sizes());
    }
    AdamW optimizer(parameters.named(), {});
    optimizer.step(0.1);
  }
}

std::string name_of(const testing::TestParamInfo<KindOfModel>& test) {
  return test.param.first + "_" + test.param.second;
}
INSTANTIATE_TEST_SUITE_P(Kinds, OtherDevice, testing::ValuesIn(kinds_of_models()), name_of);

TEST(OtherDevices, ModelsAreLoadedThere) {
  const test::TemporaryFolder folder;
  save_checkpoint(test::tiny_checkpoint("gqa", at::kFloat), folder.path());
  const Decoder model = load_checkpoint(folder.path(), {.placement = Placement::in(at::kBFloat16, at::kMeta)}).decoder;
  EXPECT_EQ(model.device(), at::Device(at::kMeta));
  EXPECT_EQ(model.options().dtype().toScalarType(), at::kBFloat16);
  const_cast<Decoder&>(model).visit_parameters([](const std::string& name, at::Tensor& tensor) {
    EXPECT_TRUE(tensor.is_meta()) << name;
    EXPECT_EQ(tensor.scalar_type(), at::kBFloat16) << name;
  });
  const Placement held{at::kMeta, std::nullopt, at::kDouble};
  const Decoder as_held = load_checkpoint(folder.path(), {.placement = held}).decoder;
  EXPECT_EQ(as_held.embedding.scalar_type(), at::kFloat);
  EXPECT_TRUE(as_held.embedding.device().is_meta());
  EXPECT_EQ(as_held.compute_dtype, at::kDouble);
}

/// What was measured and chosen stands on the host; weights are picked and mixed where they stand.
TEST(OtherDevices, PartialRopeIsMadeThere) {
  for (const Json& rope : std::vector<Json>{
           {{"name", "uniform"}, {"pairs", 2}}, {{"name", "two_norm"}, {"pairs", 2}}, {{"name", "rorope"}}}) {
    for (const char* tiny : {"gqa", "biases"}) {
      const Decoder host = test::tiny_decoder(test::tiny_spec(tiny), at::kFloat);
      Decoder model = host.clone();
      model.move_to(kNowhere);
      const auto pass = Registry<Pass>::instance().make({{"name", "partial_rope"}, {"rope", rope}}, "compress[0]");
      Statistics statistics;
      if (!pass->requirements().empty())
        statistics = calibrate(host, {{3, 14, 15, 9, 26}, {5, 35, 8, 9}}, pass->requirements(), {}, {});
      PassInputs inputs;
      inputs.statistics = &statistics;
      const PassReport report = run_pass("partial_rope", *pass, model, inputs);
      EXPECT_EQ(report.layers.size(), model.layers.size());
      expect_there(model.forward(test::random_ids(model.spec(), 2, 7).to(at::kMeta)), {2, 7, model.spec().vocabulary});
    }
  }
}

/// A weight that was left behind is told of by ATen; no kernel reads what is no memory of the host's.
TEST(OtherDevices, KernelsServeTensorsOfTheHostAlone) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::ones({2, 3, 8}), there = x.to(at::kMeta);
  const at::Tensor weight = at::ones({6, 8}), rows = at::ones({4, 6}), targets = at::zeros({4}, at::kLong);
  EXPECT_FALSE(thin_linear_serves(there, weight.to(at::kMeta)));
  EXPECT_FALSE(thin_linear_serves(x, weight.to(at::kMeta)));
  EXPECT_ANY_THROW(thin_linears(there, {weight.to(at::kMeta)}));
  EXPECT_ANY_THROW(head_products(there, weight.to(at::kMeta), 1));
  EXPECT_ANY_THROW(head_sums(there, weight.to(at::kMeta), 1));
  EXPECT_ANY_THROW(rms_norm(x, at::ones({8}, at::kMeta), 1e-5));
  expect_there(rms_norm(there, at::ones({8}, at::kMeta), 1e-5), {2, 3, 8});
  const at::Tensor heads = at::ones({1, 2, 3, 8}), table = at::ones({3, 4});
  EXPECT_ANY_THROW(rotate_heads(heads, table.to(at::kMeta), table.to(at::kMeta)));
  expect_there(rotate_heads(heads.to(at::kMeta), table.to(at::kMeta), table.to(at::kMeta)), {1, 2, 3, 8});
  EXPECT_ANY_THROW(causal_self_attention(heads, heads.to(at::kMeta), heads, 1, {}));
  EXPECT_ANY_THROW(causal_self_attention(heads.to(at::kMeta), heads, heads, 1, {}));
  EXPECT_ANY_THROW(softmax_divergence(rows.to(at::kMeta), rows, targets));
  at::Tensor logits = rows.to(at::kMeta);
  expect_there(softmax_loss_gradient(logits, targets.to(at::kMeta), {}, {}, 1), {});
  expect_there(softmax_nll(rows.to(at::kMeta), targets.to(at::kMeta)), {4});
}

}  // namespace
}  // namespace mla
