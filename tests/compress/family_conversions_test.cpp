// What conversions make of each family: exact where nothing is taken away, or refused with the reason.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/family_models.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kExactConversion = 1e-9, kNoLoss = 1e-6;  // by what is solved and inverted

Json all_pairs(const Json& low_rank) {
  return {{"name", "mha2mla"}, {"rope", {{"name", "all"}}}, {"low_rank", low_rank}};
}

/// Through the cache and through files, as it reads the whole.
void expect_whole(const test::FamilyModel& model, const Decoder& decoder, const at::Tensor& ids) {
  const at::Tensor logits = decoder.forward(ids);
  DecoderCache cache = decoder.make_cache(ids.size(0));
  at::Tensor last;
  for (std::int64_t i = 0; i < ids.size(1); ++i) last = decoder.forward_cached(ids.narrow(1, i, 1), cache);
  EXPECT_LT(test::largest_difference(last, logits.select(1, -1)), kExactConversion);
  EXPECT_EQ(cache.bytes(), ids.numel() * cached_elements(decoder.spec()) * static_cast<std::int64_t>(sizeof(double)));
  const test::TemporaryFolder folder;
  Checkpoint checkpoint = model.load();
  checkpoint.decoder = decoder.clone();
  save_checkpoint(checkpoint, folder.path());
  const Checkpoint again = load_checkpoint(folder.path(), {.placement = Placement::in(at::kDouble)});
  EXPECT_EQ(again.decoder.spec(), decoder.spec());
  EXPECT_TRUE(at::equal(again.decoder.forward(ids), logits));
}

class ConvertibleFamily : public testing::TestWithParam<std::string> {};

TEST_P(ConvertibleFamily, AtFullRankItIsTheSource) {
  const c10::InferenceMode inference;
  const test::FamilyModel model(GetParam());
  const Decoder source = model.load().decoder;
  const at::Tensor ids = model.recorded("ids"), logits = source.forward(ids);
  const TokenRowList rows = test::random_rows(model.spec, 4, 20);
  Json latents = Json::array();
  for (std::int64_t layer = 0; layer < model.spec.layer_count(); ++layer) {
    const AttentionSpec& attention = model.spec.attention(layer);
    const HeadFields heads = *attention.heads();
    const std::int64_t content = attention.rotated_pairs() > 0 ? 0 : heads.kv_heads * heads.head_dim;
    latents.push_back(std::min(model.spec.hidden, content + heads.kv_heads * heads.head_dim));
  }
  std::vector<Json> low_rank = {{{"name", "none"}}};
  if (!model.spec.attention(0).heads()->qk_norm) low_rank.push_back({{"name", "joint_svd"}, {"latent", latents}});
  low_rank.push_back({{"name", "value_svd"}, {"d_kv", model.spec.rope_dim}});
  for (const Json& options : low_rank) {
    const Decoder made = test::after_pass(source, all_pairs(options), rows);
    EXPECT_LT(test::largest_difference(made.forward(ids), logits), kExactConversion) << options;
    expect_whole(model, made, ids);
  }
}

TEST_P(ConvertibleFamily, MkLaReadsWhatItCaches) {
  const c10::InferenceMode inference;
  const test::FamilyModel model(GetParam());
  const Json mkla = {{"name", "mkla"}, {"cached", 24}, {"attention_rows", 2}, {"error_rows", 2}};
  const TokenRowList rows = test::random_rows(model.spec, 4, 20);
  Decoder source = model.load().decoder;
  if (model.spec.attention(0).heads()->qk_norm) {
    EXPECT_THAT(test::refusal_of(mkla, model.spec), HasSubstr("list fold_qk_norm before"));
    source = test::after_pass(source, {{"name", "fold_qk_norm"}}, rows);
  }
  expect_whole(model, test::after_pass(source, mkla, rows), model.recorded("ids"));
}

/// Also of layers without rotation, in windows, or with frequencies of their own.
TEST_P(ConvertibleFamily, MethodsLoseNothingAtFullSize) {
  const c10::InferenceMode inference;
  const test::FamilyModel model(GetParam());
  const TokenRowList rows = test::random_rows(model.spec, 12, 24);
  const HeadFields heads = *model.spec.attention(0).heads();
  const std::int64_t keys = heads.kv_heads * heads.head_dim, hidden = model.spec.hidden;
  Decoder source = model.load().decoder;
  if (heads.qk_norm) source = test::after_pass(source, {{"name", "fold_qk_norm"}}, rows);
  Json pairs = Json::array(), cached = Json::array();
  for (std::int64_t layer = 0; layer < model.spec.layer_count(); ++layer) {
    const bool rotated = model.spec.attention(layer).rotated_pairs() > 0;
    pairs.push_back(rotated ? keys / 2 : 0);
    cached.push_back(rotated ? keys + std::min(keys, hidden) : std::min(2 * keys, hidden));
  }
  const at::Tensor ids = model.recorded("ids"), logits = source.forward(ids);
  for (const Json& pass :
       {Json{{"name", "mkla"}, {"pairs", pairs}, {"cached", cached}, {"refit", false}},
        Json{{"name", "palu"}, {"cached", 2 * keys}}, Json{{"name", "lorc"}, {"width", std::min(keys, hidden)}},
        Json{{"name", "kq_svd"}, {"cached", 2 * keys}}, Json{{"name", "mfa"}, {"width", keys}}}) {
    const Decoder made = test::after_pass(source, pass, rows);
    EXPECT_LT(test::largest_difference(made.forward(ids), logits), kNoLoss) << pass;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ConvertibleFamily,
                         testing::Values("smollm3", "smollm3_window", "phi3", "phi3_longrope", "gemma3"),
                         [](const auto& test) { return test.param; });

TEST(FamilyConversions, LayersWithoutRotationKeepNoPairs) {
  const test::FamilyModel model("smollm3");
  const ModelSpec planned =
      test::pass_of(
          {{"name", "mha2mla"}, {"rope", {{"name", "uniform"}, {"pairs", 2}}}, {"low_rank", {{"name", "none"}}}})
          ->plan(model.spec);
  for (std::int64_t layer = 0; layer < 5; ++layer) {
    const bool rotated = layer % 2 == 0;
    EXPECT_EQ(model.spec.attention(layer).rotated_pairs(), rotated ? 4 : 0) << layer;
    EXPECT_EQ(planned.attention(layer).rotated_pairs(), rotated ? 2 : 0) << layer;
    EXPECT_EQ(planned.attention(layer).streams().front().width, rotated ? 4 : 0) << layer;
  }
}

/// Their tiny layers begin with what has no rotation, whatever pairs a selection measures.
TEST(FamilyConversions, AMeasuredSelectionLeavesThemAlone) {
  const c10::InferenceMode inference;
  const test::FamilyModel model("smollm3");
  const Decoder source = model.load().decoder;
  const Json pass = {
      {"name", "mha2mla"}, {"rope", {{"name", "two_norm"}, {"pairs", 4}}}, {"low_rank", {{"name", "none"}}}};
  const Decoder made = test::after_pass(source, pass, test::random_rows(model.spec, 4, 20));
  const at::Tensor ids = model.recorded("ids");
  EXPECT_LT(test::largest_difference(made.forward(ids), source.forward(ids)), kExactConversion);
  EXPECT_EQ(made.spec().attention(1).rotated_pairs(), 0);
}

TEST(FamilyConversions, WhatNoLatentComputesIsRefused) {
  const std::vector<Json> passes = {
      {{"name", "mha2mla"}, {"rope", {{"name", "high"}, {"pairs", 2}}}, {"low_rank", {{"name", "none"}}}},
      {{"name", "mkla"}, {"cached", 24}},
      {{"name", "transmla"}, {"cached", 24}},
      {{"name", "palu"}, {"cached", 24}},
      {{"name", "lorc"}},
      {{"name", "mfa"}}};
  for (const Json& pass : passes) {
    EXPECT_THAT(test::refusal_of(pass, test::FamilyModel("gemma2").spec),
                HasSubstr("gemma2: the logits of attention are capped (soft cap 3), which no layer with a latent "
                          "computes; share_attention, merge_layers, quantize_weights and a quantized cache serve it"))
        << pass;
    EXPECT_THAT(test::refusal_of(pass, test::FamilyModel("olmo2").spec),
                HasSubstr("olmo2: queries and keys are normalised over all heads together (QK-norm), so that heads "
                          "cannot be taken apart"))
        << pass;
  }
}

TEST(FamilyConversions, NormsOverAllHeadsCanBeFolded) {
  const c10::InferenceMode inference;
  const test::FamilyModel model("olmo2");
  const TokenRowList rows = test::random_rows(model.spec, 4, 20);
  const Decoder folded = test::after_pass(model.load().decoder, {{"name", "fold_qk_norm"}}, rows);
  expect_whole(model, folded, model.recorded("ids"));
  const Json mkla = {{"name", "mkla"}, {"cached", 24}, {"attention_rows", 2}, {"error_rows", 2}};
  expect_whole(model, test::after_pass(folded, mkla, rows), model.recorded("ids"));
}

/// Passes that the refusals name do serve.
TEST(FamilyConversions, WhatIsNamedInsteadServes) {
  const c10::InferenceMode inference;
  for (const char* name : {"gemma2", "olmo2"}) {
    const test::FamilyModel model(name);
    const Decoder source = model.load().decoder;
    const at::Tensor ids = model.recorded("ids");
    const TokenRowList rows = test::random_rows(model.spec, 4, 20);
    expect_whole(model, test::after_pass(source, {{"name", "share_attention"}, {"layers", {2}}}, rows), ids);
    expect_whole(model, test::after_pass(source, {{"name", "merge_layers"}, {"drop", {1}}}, rows), ids);
  }
}

TEST(FamilyConversions, HeadsThatAreNormalisedTogetherAreNotPruned) {
  EXPECT_THAT(test::refusal_of({{"name", "saap"}, {"heads", 0.5}}, test::FamilyModel("olmo2").spec),
              HasSubstr("so that heads cannot be taken apart"));
}

}  // namespace
}  // namespace mla
