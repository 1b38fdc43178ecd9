// Which gradients go away together, and in which order.
#include "core/train/gradient_buckets.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/train/bucket_layout.h"
#include "tests/support/attention_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::ElementsAre;

constexpr std::int64_t kMegabyte = std::int64_t{1} << 20;

std::vector<std::string> names_of(const ParameterBytes& parameters, const std::vector<std::size_t>& bucket) {
  std::vector<std::string> names;
  for (const std::size_t i : bucket) names.push_back(parameters[i].first);
  return names;
}

TEST(Buckets, ArePartOfAllWithinBounds) {
  EXPECT_EQ(bucket_bytes({{"a", 10}}), kMegabyte / 4);
  EXPECT_EQ(bucket_bytes({{"a", 32 * kMegabyte}, {"b", 64 * kMegabyte}}), 3 * kMegabyte);
  EXPECT_EQ(bucket_bytes({{"a", 100000 * kMegabyte}}), 8 * kMegabyte);
}

TEST(Buckets, FollowTheBackwardPassAndHoldLargeOnesAlone) {
  UniformModel model = test::tiny_model("mha");
  model.layers = 11;
  const ParameterBytes parameters = {{"model.embed_tokens.weight", 400 * kMegabyte},
                                     {"model.layers.0.input_layernorm.weight", 100},
                                     {"model.layers.0.self_attn.q_proj.weight", 5 * kMegabyte},
                                     {"model.layers.1.self_attn.q_proj.weight", 5 * kMegabyte},
                                     {"model.layers.1.mlp.up_proj.weight", 9 * kMegabyte},
                                     {"model.layers.10.mlp.up_proj.weight", 1 * kMegabyte},
                                     {"model.norm.weight", 100},
                                     {"lm_head.weight", 300 * kMegabyte}};
  std::vector<std::vector<std::string>> named;
  for (const auto& bucket : make_buckets(model.spec(), parameters)) named.push_back(names_of(parameters, bucket));
  EXPECT_THAT(
      named,
      ElementsAre(ElementsAre("lm_head.weight"), ElementsAre("model.norm.weight", "model.layers.10.mlp.up_proj.weight"),
                  ElementsAre("model.layers.1.mlp.up_proj.weight"),
                  ElementsAre("model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight"),
                  ElementsAre("model.layers.0.input_layernorm.weight"), ElementsAre("model.embed_tokens.weight")));
}

// Otherwise buckets would wait for each other.
TEST(Buckets, HaveTheOrderInWhichEveryKindOfAttentionCompletesLayers) {
  for (const std::string& kind : Registry<AttentionSpec>::instance().names()) {
    for (const bool checkpointed : {false, true}) {
      SCOPED_TRACE(kind);
      const ModelSpec spec = test::spec_with_attention(kind);
      const std::vector<std::size_t> boundaries = group_boundaries(spec);
      Decoder decoder = test::tiny_decoder(spec);
      decoder.checkpoint_activations = checkpointed;
      const TrainableParameters trained(decoder, "all", "train.trainable");
      std::vector<std::int64_t> depths;
      for (const auto& [name, parameter] : trained.named()) {
        const auto layer = layer_of(name);
        const std::int64_t depth =
            !layer ? (name == "model.norm.weight" ? spec.layer_count() : -1)
                   : std::upper_bound(boundaries.begin(), boundaries.end(), *layer) - boundaries.begin() - 1;
        parameter.register_hook([&depths, depth](const at::Tensor&) { depths.push_back(depth); });
      }
      decoder.hidden_states(test::random_ids(spec, 2, 9)).sum().backward();
      EXPECT_TRUE(std::is_sorted(depths.rbegin(), depths.rend())) << testing::PrintToString(depths);
      EXPECT_EQ(depths.size() + (spec.tied_embeddings ? 0U : 1U), trained.named().size());
    }
  }
}

TEST(BucketLayout, HoldsEveryProcessesPartsInARow) {
  // Nine elements among three processes: parameter 0 has four, parameter 1 two, parameter 2 three.
  const std::vector<std::vector<std::int64_t>> counts = {{3, 1, 0}, {0, 2, 0}, {0, 0, 3}};
  std::vector<WeightShards::Place> places;
  for (const auto& by_process : counts) places.push_back({0, by_process, 0, 0});
  const std::vector<at::Tensor> flat = {at::tensor({20., 21., 22.}), at::tensor({10., 11.}),
                                        at::tensor({0., 1., 2., 3.})};
  const BucketLayout layout({2, 1, 0}, places, 1);
  EXPECT_THAT(layout.counts(), ElementsAre(3, 3, 3));
  EXPECT_TRUE(layout.pack(flat).equal(at::tensor({0., 1., 2., 10., 11., 3., 20., 21., 22.})));
  std::vector<std::pair<std::size_t, at::Tensor>> own;
  layout.visit_own(at::tensor({5., 6., 7.}),
                   [&](std::size_t parameter, const at::Tensor& part) { own.emplace_back(parameter, part); });
  ASSERT_EQ(own.size(), 3U);
  EXPECT_EQ(own[0].second.numel(), 0);
  EXPECT_TRUE(own[1].first == 1 && own[1].second.equal(at::tensor({5., 6.})));
  EXPECT_TRUE(own[2].first == 0 && own[2].second.equal(at::tensor({7.})));
  const at::Tensor buffer = at::zeros({9}, at::kDouble);
  layout.put_own(buffer, flat);
  EXPECT_TRUE(buffer.equal(at::tensor({0., 0., 0., 10., 11., 3., 0., 0., 0.})));
  layout.take_all(at::arange(9, at::kDouble), flat);
  EXPECT_TRUE(flat[2].equal(at::tensor({0., 1., 2., 5.})));
  EXPECT_TRUE(flat[1].equal(at::tensor({3., 4.})));
  EXPECT_TRUE(flat[0].equal(at::tensor({6., 7., 8.})));
}

}  // namespace
}  // namespace mla
