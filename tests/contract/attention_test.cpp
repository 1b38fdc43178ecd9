// What every kind of attention promises, whatever it computes.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/model/checkpoint.h"
#include "core/model/family.h"
#include "core/model/model_config.h"
#include "tests/support/attention_models.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kSameDouble = 1e-10;
constexpr std::int64_t kTokens = 11;

using Kinds = Registry<AttentionSpec>;

class AttentionContract : public testing::TestWithParam<std::string> {
 protected:
  AttentionContract()
      : spec(test::spec_with_attention(GetParam())),
        decoder(test::tiny_decoder(spec)),
        ids(test::random_ids(spec, 2, kTokens)) {}
  ModelSpec spec;
  Decoder decoder;
  at::Tensor ids;
};

TEST(AttentionKinds, AreTheseOnes) {
  EXPECT_THAT(Kinds::instance().names(),
              testing::ElementsAre("grouped_query", "latent", "mfa", "mkla", "shared_attention", "split_latent"));
}

TEST_P(AttentionContract, TensorsAreTheParametersItStates) {
  std::vector<ModelParameter> stated = model_parameters(spec);
  std::size_t at = 0;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    ASSERT_LT(at, stated.size()) << name;
    EXPECT_EQ(name, stated[at].name);
    EXPECT_EQ(tensor.sizes(), at::IntArrayRef(stated[at].shape)) << name;
    ++at;
  });
  EXPECT_EQ(at, stated.size());
  EXPECT_EQ(decoder.parameter_count(), count_parameters(spec).total());
}

TEST_P(AttentionContract, LayersAreWhatTheyAreBuiltFrom) {
  bool found = false;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    EXPECT_EQ(*decoder.layers[i].attention->spec(), *spec.layers[i].attention);
    found = found || spec.layers[i].attention->kind() == GetParam();
  }
  EXPECT_TRUE(found);
}

TEST_P(AttentionContract, FieldsGiveTheSameSpec) {
  for (const LayerSpec& layer : spec.layers) {
    Json config = layer.attention->fields();
    config["name"] = layer.attention->kind();
    EXPECT_EQ(*Kinds::instance().make(config, "layer"), *layer.attention);
    EXPECT_NO_THROW(layer.attention->check(spec, "layer"));
    EXPECT_GT(layer.attention->cached_operations(), 0);
    EXPECT_GT(layer.attention->expanded_operations(), 0);
  }
}

TEST_P(AttentionContract, CachedIsUncached) {
  const at::NoGradGuard no_grad;
  const at::Tensor expected = decoder.hidden_states(ids);
  decoder.prepare_decode();
  for (const DecodePath path : {DecodePath::kAuto, DecodePath::kAbsorbed, DecodePath::kExpanded}) {
    for (const auto& chunks :
         {std::vector<std::int64_t>{kTokens}, {5, 1, 3, 2}, std::vector<std::int64_t>(kTokens, 1)}) {
      DecoderCache cache = decoder.make_cache(2);
      std::vector<at::Tensor> parts;
      std::int64_t begin = 0;
      for (const std::int64_t count : chunks) {
        parts.push_back(decoder.hidden_states_cached(ids.narrow(1, begin, count), cache, path));
        begin += count;
      }
      EXPECT_LT(test::largest_difference(at::cat(parts, 1), expected), kSameDouble) << chunks.size();
      EXPECT_EQ(cache.lengths(), (std::vector<std::int64_t>{kTokens, kTokens}));
      EXPECT_EQ(cache.bytes(), 2 * kTokens * cached_elements(spec) * static_cast<std::int64_t>(sizeof(double)));
      EXPECT_EQ(cache.predicted_bytes(), cache.bytes());
    }
  }
}

TEST_P(AttentionContract, SequencesOfABatchMayDifferInLength) {
  const at::NoGradGuard no_grad;
  DecoderCache cache = decoder.make_cache(2);
  decoder.hidden_states_cached(ids.narrow(1, 0, 6), cache, DecodePath::kAuto, {6, 2});
  at::Tensor next = at::stack({ids[0].narrow(0, 6, 3), ids[1].narrow(0, 2, 3)});
  const at::Tensor found = decoder.hidden_states_cached(next, cache, DecodePath::kAuto, {1, 3});
  EXPECT_EQ(cache.lengths(), (std::vector<std::int64_t>{7, 5}));
  const at::Tensor expected = decoder.hidden_states(ids);
  EXPECT_LT(test::largest_difference(found[0][0], expected[0][6]), kSameDouble);
  EXPECT_LT(test::largest_difference(found[1], expected[1].narrow(0, 2, 3)), kSameDouble);
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
}

TEST_P(AttentionContract, ClonesShareNothing) {
  const at::NoGradGuard no_grad;
  const at::Tensor before = decoder.hidden_states(ids);
  Decoder copy = decoder.clone();
  EXPECT_EQ(copy.spec(), decoder.spec());
  EXPECT_TRUE(at::equal(copy.hidden_states(ids), before));
  copy.visit_parameters([](const std::string&, at::Tensor& tensor) { tensor.mul_(2); });
  EXPECT_TRUE(at::equal(decoder.hidden_states(ids), before));
}

TEST_P(AttentionContract, SavedAndLoadedIsTheSame) {
  const at::NoGradGuard no_grad;
  const test::TemporaryFolder folder;
  save_checkpoint({decoder.clone(), make_config(spec), {}}, folder.path());
  const Checkpoint loaded = load_checkpoint(folder.path(), {.placement = Placement::in(at::kDouble)});
  EXPECT_EQ(loaded.decoder.spec(), spec);
  EXPECT_EQ(load_spec(folder.path()), spec);
  EXPECT_TRUE(at::equal(loaded.decoder.hidden_states(ids), decoder.hidden_states(ids)));
}

TEST_P(AttentionContract, TapsShowWhatPassesThrough) {
  const at::NoGradGuard no_grad;
  std::map<Tap, std::vector<at::Tensor>> seen;
  const Observer observer{{Tap::kLayerInput, Tap::kAttentionInput, Tap::kValue, Tap::kAttentionContext,
                           Tap::kAttentionOutput, Tap::kFeedForwardInput, Tap::kFeedForwardOutput, Tap::kLayerOutput},
                          [&](Tap tap, std::int64_t layer, const at::Tensor& tensor) {
                            EXPECT_EQ(layer, std::ssize(seen[tap]));
                            seen[tap].push_back(tensor);
                          }};
  decoder.observe(ids, observer);
  for (const auto& [tap, tensors] : seen) EXPECT_EQ(tensors.size(), spec.layers.size());
  EXPECT_EQ(seen.size(), observer.taps.size());
  EXPECT_TRUE(at::equal(seen[Tap::kLayerInput][0], decoder.embed(ids)));
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const at::Tensor sum =
        seen[Tap::kLayerInput][i] + seen[Tap::kAttentionOutput][i] + seen[Tap::kFeedForwardOutput][i];
    EXPECT_LT(test::largest_difference(sum, seen[Tap::kLayerOutput][i]), kSameDouble);
    EXPECT_EQ(seen[Tap::kValue][i].dim(), 4);
  }
  EXPECT_TRUE(at::equal(decoder.final_states(seen[Tap::kLayerOutput].back()), decoder.hidden_states(ids)));
}

INSTANTIATE_TEST_SUITE_P(Kinds, AttentionContract, testing::ValuesIn(Kinds::instance().names()),
                         [](const auto& kind) { return kind.param; });

}  // namespace
}  // namespace mla
