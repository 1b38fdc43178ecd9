// Families against transformers: logits, greedy decoding through the cache, files, counts.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "core/evaluate/generate.h"
#include "core/model/family.h"
#include "core/model/model_config.h"
#include "tests/support/errors.h"
#include "tests/support/family_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using testing::HasSubstr;

/// Records are made in float64 but for the rotations, of which transformers makes some in float32.
constexpr double kPeerDoubleTolerance = 2e-7;
constexpr double kPeerFloatTolerance = 1e-4;
constexpr double kCachedTolerance = 1e-10;

class FamilyPeer : public testing::TestWithParam<std::string> {};

double furthest(const Decoder& decoder, const test::FamilyModel& model, const std::string& prefix) {
  const at::Tensor expected = model.recorded(prefix + "logits");
  const at::Tensor logits = decoder.forward(model.recorded(prefix + "ids"));
  const std::int64_t kept = expected.size(1);
  return test::largest_difference(logits.narrow(1, logits.size(1) - kept, kept), expected);
}

TEST_P(FamilyPeer, LogitsAreThoseOfTransformers) {
  const c10::InferenceMode inference;
  const test::FamilyModel model(GetParam());
  for (const char* prefix : {"", "long_"}) {
    EXPECT_LT(furthest(model.load().decoder, model, prefix), kPeerDoubleTolerance) << prefix;
    EXPECT_LT(furthest(model.load(at::kFloat).decoder, model, prefix), kPeerFloatTolerance) << prefix;
  }
}

TEST_P(FamilyPeer, GreedyDecodingWritesTheSame) {
  const test::FamilyModel model(GetParam());
  const auto wanted = model.record.at("greedy").get<std::vector<std::int64_t>>();
  const Decoder decoder = model.load().decoder;
  const at::Tensor written = greedy_continue(decoder, model.recorded("ids").narrow(0, 0, 1), std::ssize(wanted));
  EXPECT_TRUE(at::equal(written.flatten(), at::tensor(wanted, at::kLong))) << written;
}

/// In chunks, then token by token; rows of unequal length together.
TEST_P(FamilyPeer, TheCacheGivesWhatTheWholeSequenceGives) {
  const c10::InferenceMode inference;
  const test::FamilyModel model(GetParam());
  Decoder decoder = model.load().decoder;
  const at::Tensor ids = model.recorded("ids");
  const at::Tensor whole = decoder.forward(ids);
  decoder.prepare_decode();
  DecoderCache cache = decoder.make_cache(2);
  at::Tensor last = decoder.forward_cached(ids.narrow(1, 0, 4), cache, DecodePath::kAuto, {4, 2});
  EXPECT_LT(test::largest_difference(last[1], whole[1][1]), kCachedTolerance);
  last = decoder.forward_cached(at::stack({ids[0].narrow(0, 4, 3), ids[1].narrow(0, 2, 3)}), cache);
  EXPECT_LT(test::largest_difference(last, at::stack({whole[0][6], whole[1][4]})), kCachedTolerance);
  for (std::int64_t t = 7; t < ids.size(1); ++t) {
    last = decoder.forward_cached(at::stack({ids[0].narrow(0, t, 1), ids[1].narrow(0, t - 2, 1)}), cache);
    EXPECT_LT(test::largest_difference(last, at::stack({whole[0][t], whole[1][t - 2]})), kCachedTolerance) << t;
  }
  EXPECT_EQ(cache.bytes(), cache.predicted_bytes());
  std::int64_t elements = 0;
  for (const std::int64_t length : cache.lengths()) elements += length * cached_elements(model.spec);
  EXPECT_EQ(cache.bytes(), elements * static_cast<std::int64_t>(sizeof(double)));
}

std::string bytes_of_file(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

TEST_P(FamilyPeer, WhatIsSavedIsWhatWasLoaded) {
  const test::FamilyModel model(GetParam());
  const test::TemporaryFolder saved;
  save_checkpoint(model.load(), saved.path());
  EXPECT_EQ(read_json(saved / "config.json"), model.record.at("config"));
  EXPECT_EQ(bytes_of_file(saved / "model.safetensors"), bytes_of_file(model.folder / "model.safetensors"));
}

TEST_P(FamilyPeer, ParametersAreCounted) {
  const test::FamilyModel model(GetParam());
  const Decoder decoder = model.load().decoder;
  EXPECT_EQ(decoder.parameter_count(), model.record.at("parameters").get<std::int64_t>());
  EXPECT_EQ(count_parameters(model.spec).total(), decoder.parameter_count());
  EXPECT_EQ(decoder.predicted_weight_bytes(), decoder.weight_bytes());
}

/// What a config says is not only kept but understood: it is written anew for a model that lost a layer.
TEST_P(FamilyPeer, AConfigIsWrittenForAnotherModel) {
  const c10::InferenceMode inference;
  const test::FamilyModel model(GetParam());
  Checkpoint checkpoint = model.load();
  checkpoint.decoder.remove_layers({1});
  const at::Tensor ids = model.recorded("long_ids"), logits = checkpoint.decoder.forward(ids);
  const test::TemporaryFolder saved;
  save_checkpoint(checkpoint, saved.path());
  const Checkpoint again = load_checkpoint(saved.path(), {.placement = Placement::in(at::kDouble)});
  EXPECT_EQ(again.decoder.spec(), checkpoint.decoder.spec());
  EXPECT_TRUE(at::equal(again.decoder.forward(ids), logits));
}

INSTANTIATE_TEST_SUITE_P(All, FamilyPeer, testing::ValuesIn(test::family_models()),
                         [](const auto& test) { return test.param; });

std::string config_error(const std::string& model, const Json& changes) {
  Json config = test::FamilyModel(model).record.at("config");
  config.update(changes);
  return test::message_of<DataError>([&] { read_model_config(config, "config.json"); });
}

TEST(FamilyConfigs, MistakesAreNamed) {
  EXPECT_THAT(config_error("smollm3", {{"no_rope_layers", {1, 0}}}),
              HasSubstr("no_rope_layers = [1,0]: must list 1 (rotated) or 0 for each of 5 layers"));
  EXPECT_THAT(config_error("smollm3", {{"no_rope_layers", {1, 0, 2, 0, 1}}}), HasSubstr("layer 2: expected 1"));
  EXPECT_THAT(config_error("smollm3_window", {{"sliding_window", nullptr}}),
              HasSubstr("a sliding layer needs use_sliding_window and sliding_window"));
  EXPECT_THAT(config_error("gemma2", {{"attn_logit_softcapping", -1}}),
              HasSubstr("attn_logit_softcapping = -1: must be greater than 0, or null for none"));
  EXPECT_THAT(config_error("gemma2", {{"hidden_activation", "gelu"}}), HasSubstr("known: gelu_pytorch_tanh"));
  EXPECT_THAT(config_error("gemma3", {{"use_bidirectional_attention", true}}), HasSubstr("not supported"));
  EXPECT_THAT(config_error("gemma3", {{"rope_parameters", {{"full_attention", 3}}}}), HasSubstr("must be an object"));
  EXPECT_THAT(config_error("phi3", {{"partial_rotary_factor", 0.75}}), HasSubstr("only 1 is supported"));
  Json longrope = test::FamilyModel("phi3_longrope").record.at("config").at("rope_parameters");
  longrope.erase("long_factor");
  EXPECT_THAT(config_error("phi3_longrope", {{"rope_parameters", longrope}}),
              HasSubstr("rope_parameters: long_factor = absent: needed for longrope"));
  longrope["long_factor"] = {1, 2, 3};
  EXPECT_THAT(config_error("phi3_longrope", {{"rope_parameters", longrope}}),
              HasSubstr("must list a number for each of 4 pairs"));
}

/// Published Gemma 3 files state two bases in a way of their own; Phi-3's first ones named LongRoPE otherwise.
TEST(FamilyConfigs, OlderSpellingsSayTheSame) {
  const test::FamilyModel gemma("gemma3");
  Json old = gemma.record.at("config");
  for (const char* key : {"rope_parameters", "layer_types", "_sliding_window_pattern"}) old.erase(key);
  old.update(Json{{"rope_theta", 100000.0},
                  {"rope_local_base_freq", 500.0},
                  {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}});
  EXPECT_EQ(read_model_config(old, "old"), gemma.spec);

  const test::FamilyModel phi("phi3_longrope");
  old = phi.record.at("config");
  Json scaling = old.at("rope_parameters");
  for (const char* key : {"rope_type", "original_max_position_embeddings"}) scaling.erase(key);
  for (const char* name : {"su", "yarn", "longrope"}) {
    scaling["type"] = name;
    old["rope_parameters"] = scaling;
    EXPECT_EQ(read_model_config(old, "old"), phi.spec) << name;
  }
}

TEST(FamilyFiles, AFusedMatrixOfAnotherShapeIsRefused) {
  const test::FamilyModel model("phi3");
  auto tensors = model.tensors;
  for (auto& [name, tensor] : tensors) {
    if (name == "model.layers.1.self_attn.qkv_proj.weight") tensor = tensor.narrow(0, 0, 40).contiguous();
  }
  write_safetensors(model.folder / "model.safetensors", tensors);
  EXPECT_THAT(test::message_of<DataError>([&] { model.load(); }),
              HasSubstr("model.layers.1.self_attn.qkv_proj.weight: expected 64 rows, those of self_attn.q_proj, "
                        "self_attn.k_proj, self_attn.v_proj, found shape [40, 32]"));
}

}  // namespace
}  // namespace mla
