// Frequencies of every kind of scaling against transformers' functions, and the parameters that give none.
#include "core/model/rope_config.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/base/error.h"
#include "core/model/family.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::message_of;
using testing::AllOf;
using testing::HasSubstr;

/// Reference values are written with 15 digits.
constexpr double kWritten = 1e-13;

Json plain_config(std::int64_t head_dim) {
  return {{"model_type", "llama"},         {"vocab_size", 32},       {"hidden_size", 2 * head_dim},
          {"intermediate_size", 24},       {"num_hidden_layers", 1}, {"num_attention_heads", 2},
          {"max_position_embeddings", 64}, {"rope_theta", 10000.0}};
}

Json with(Json config, const char* key, const Json& value) {
  config[key] = value;
  return config;
}

ModelSpec read(const Json& config) { return read_published_config(config, "config.json"); }

std::string refusal(const Json& config) {
  return message_of<DataError>([&] { read(config); });
}

std::string refused(const Json& scaling) { return refusal(with(plain_config(16), "rope_scaling", scaling)); }

void expect_scaled(const Json& config, std::int64_t length, const std::vector<double>& wanted) {
  const at::Tensor found = read(config).rotary().frequencies(length);
  const at::Tensor reference = at::tensor(wanted, at::kDouble);
  ASSERT_EQ(found.sizes(), reference.sizes());
  EXPECT_LT(((found - reference) / reference).abs().max().item<double>(), kWritten) << found;
}

TEST(RopeConfig, LinearAndDynamicAreThoseOfTransformers) {
  const auto scaled = [](const Json& scaling) { return with(plain_config(8), "rope_scaling", scaling); };
  expect_scaled(scaled({{"type", "linear"}, {"factor", 4}}), 10, {0.25, 0.025, 0.0025, 0.00025});
  const Json dynamic = scaled({{"rope_type", "dynamic"}, {"factor", 2.5}});
  expect_scaled(dynamic, 10, {1, 0.1, 0.01, 0.001});
  expect_scaled(dynamic, 300, {1, 0.0460822923942303, 0.00212357767230733, 9.78593272171254e-05});
}

TEST(RopeConfig, Llama3IsThatOfTransformers) {
  Json config = with(plain_config(16), "rope_scaling",
                     {{"rope_type", "llama3"},
                      {"factor", 8},
                      {"low_freq_factor", 1},
                      {"high_freq_factor", 4},
                      {"original_max_position_embeddings", 64}});
  config["rope_theta"] = 500000.0;
  const std::vector<double> wanted = {1,
                                      0.0794030091792082,
                                      0.00470075386635799,
                                      0.000911583092152139,
                                      0.000176776695296637,
                                      3.42810219595259e-05,
                                      6.64786987118124e-06,
                                      1.28917317215156e-06};
  expect_scaled(config, 10, wanted);
  // Phi-3's style: the original length stands in config.json itself, and goes before that inside.
  config["original_max_position_embeddings"] = 64;
  config["rope_scaling"]["original_max_position_embeddings"] = 32;
  expect_scaled(config, 10, wanted);
}

TEST(RopeConfig, YarnIsThatOfTransformers) {
  const auto yarn = [](const Json& more, double scale) {
    Json scaling = {{"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 16}};
    scaling.update(more);
    const Json config = with(plain_config(16), "rope_scaling", scaling);
    expect_scaled(config, 10,
                  {1, 0.0790569415042095, 0.025, 0.00790569415042095, 0.0025, 0.000790569415042095, 0.00025,
                   7.90569415042095e-05});
    EXPECT_NEAR(read(config).rotary().logit_scale(), scale, kWritten);
  };
  constexpr double kUsual = 1.29647699278071;
  yarn(Json::object(), kUsual);
  yarn({{"factor", nullptr}}, kUsual);  // the ratio of the context lengths
  yarn({{"beta_fast", 0}, {"beta_slow", 0}}, kUsual);
  yarn({{"beta_fast", nullptr}, {"truncate", nullptr}}, kUsual);
  yarn({{"attention_factor", 0.5}}, 0.25);
  yarn({{"mscale", 0.7}, {"mscale_all_dim", 1.3}}, 0.86401392291224);
  yarn({{"mscale", 0.0}, {"mscale_all_dim", 1.3}}, kUsual);
  yarn({{"finetuned", true}, {"attn_factor", 1}}, kUsual);
}

TEST(RopeConfig, ParametersThatGiveNoFrequenciesAreRefused) {
  const Json original = {{"original_max_position_embeddings", 16}};
  const auto yarn = [](const Json& more) {
    Json scaling = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}};
    scaling.update(more);
    return refused(scaling);
  };
  EXPECT_THAT(refused({{"type", "yarn"}, {"original_max_position_embeddings", 16}}), HasSubstr("factor = absent"));
  EXPECT_THAT(yarn({{"original_max_position_embeddings", 0}}),
              HasSubstr("config.json: rope_scaling: original_max_position_embeddings = 0: must be from 1 to"));
  EXPECT_THAT(yarn({{"original_max_position_embeddings", -16}}), HasSubstr("must be from 1"));
  EXPECT_THAT(yarn({{"original_max_position_embeddings", 16.5}}), HasSubstr("must be an integer"));
  EXPECT_THAT(yarn({{"beta_fast", -1}}), HasSubstr("beta_fast = -1"));
  EXPECT_THAT(yarn({{"beta_slow", 64}}), HasSubstr("beta_fast"));
  EXPECT_THAT(yarn({{"attention_factor", 0}}), HasSubstr("attention_factor = 0"));
  EXPECT_THAT(yarn({{"attention_factor", -1}}), HasSubstr("attention_factor = -1"));
  EXPECT_THAT(yarn({{"attention_factor", 1e200}}), HasSubstr("scales the logits of attention by inf"));
  EXPECT_THAT(yarn({{"attention_factor", 1e-100}}), HasSubstr("scales the logits of attention by"));
  EXPECT_THAT(yarn({{"mscale", -1}}), HasSubstr("mscale = -1"));
  EXPECT_THAT(yarn({{"truncate", "no"}}), HasSubstr("truncate = \"no\": must be true or false"));
  EXPECT_THAT(yarn({{"attn_factor", 2}}), HasSubstr("attn_factor = 2"));
  EXPECT_THAT(yarn({{"partial_rotary_factor", 0.5}}), HasSubstr("partial_rotary_factor = 0.5"));
  for (const char* type : {"linear", "dynamic", "yarn"}) {
    for (const Json& factor : {Json(0), Json(-2), Json(0.5), Json("4"), Json::array({4}), Json(true)}) {
      EXPECT_THAT(refused({{"rope_type", type}, {"factor", factor}}), HasSubstr("factor = ")) << type << factor;
    }
  }
  for (const char* type : {"linear", "dynamic"}) {
    EXPECT_THAT(refused({{"rope_type", type}}), HasSubstr("needed for"));
    EXPECT_THAT(refused({{"rope_type", type}, {"factor", nullptr}}), HasSubstr("needed for"));
  }
  EXPECT_THAT(refusal(with(plain_config(2), "rope_scaling", {{"type", "dynamic"}, {"factor", 2}})),
              HasSubstr("needs heads of more than 2 dims"));
}

TEST(RopeConfig, Llama3NeedsItsParameters) {
  const Json whole = {{"rope_type", "llama3"},
                      {"factor", 8},
                      {"low_freq_factor", 1},
                      {"high_freq_factor", 4},
                      {"original_max_position_embeddings", 32}};
  EXPECT_EQ(refused(whole), "no error");
  for (const auto& [key, value] : whole.items()) {
    if (key == "rope_type") continue;
    Json without = whole;
    without.erase(key);
    EXPECT_THAT(refused(without), HasSubstr(key + " = absent: needed for llama3"));
    EXPECT_THAT(refused(with(whole, key.c_str(), 0)), HasSubstr(key + " = 0"));
    EXPECT_THAT(refused(with(whole, key.c_str(), -1)), HasSubstr(key + " = -1"));
    EXPECT_THAT(refused(with(whole, key.c_str(), "1")), HasSubstr(key + " = \"1\""));
  }
  EXPECT_THAT(refused(with(whole, "high_freq_factor", 1)), HasSubstr("must exceed low_freq_factor"));
}

TEST(RopeConfig, UnknownOrContradictingTypesAreRefused) {
  for (const char* type : {"su", "ntk", "mrope", "proportional", ""})
    EXPECT_THAT(refused({{"rope_type", type}, {"factor", 2}}), HasSubstr("not supported; known: default")) << type;
  EXPECT_THAT(refused({{"rope_type", "linear"}, {"type", "yarn"}, {"factor", 2}}), HasSubstr("contradicts rope_type"));
  EXPECT_THAT(refused({{"rope_type", nullptr}, {"factor", 2}}), HasSubstr("rope_type = null"));
  EXPECT_THAT(refused({{"factor", 2}}), HasSubstr("has no effect without a rope_type"));
  EXPECT_THAT(refused({{"rope_type", 3}}), HasSubstr("rope_type = 3: must be a string"));
  EXPECT_THAT(refused(Json::array()), HasSubstr("rope_scaling = []: must be an object"));
  EXPECT_THAT(refused({{"full_attention", {{"rope_type", "default"}}}}), HasSubstr("full_attention"));
}

TEST(RopeConfig, ThetaEpsilonAndHeads) {
  for (const Json& theta : {Json(0), Json(-1), Json(1), Json(0.5), Json(nullptr), Json("10000"), Json(true)}) {
    EXPECT_THAT(refusal(with(plain_config(8), "rope_theta", theta)), HasSubstr("rope_theta = ")) << theta;
    EXPECT_THAT(refusal(with(plain_config(8), "rope_parameters", {{"rope_theta", theta}})), HasSubstr("rope_theta"));
  }
  EXPECT_EQ(refusal(with(plain_config(8), "rope_theta", 1e300)), "no error");
  for (const Json& epsilon : {Json(0), Json(0.0), Json(-1e-5), Json(nullptr), Json("1e-5")}) {
    EXPECT_THAT(refusal(with(plain_config(8), "rms_norm_eps", epsilon)), HasSubstr("rms_norm_eps = ")) << epsilon;
  }
  for (const Json& width : {Json(7), Json(0), Json(-8), Json(8.0), Json(16385)})
    EXPECT_THAT(refusal(with(plain_config(8), "head_dim", width)), HasSubstr("head_dim = ")) << width;
  EXPECT_THAT(refusal(plain_config(7)), HasSubstr("the head dimension must be positive and even, it is 7"));
}

TEST(RopeConfig, RopeScalingGoesBeforeRopeParameters) {
  Json config = with(plain_config(8), "rope_scaling", {{"rope_type", "linear"}, {"factor", 4}});
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
  expect_scaled(config, 10, {0.25, 0.025, 0.0025, 0.00025});
  config["rope_scaling"] = Json::object();
  expect_scaled(config, 10, {1, 0.1, 0.01, 0.001});
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 4}};
  config["rope_parameters"]["rope_theta"] = 500000.0;
  EXPECT_THAT(refusal(config), AllOf(HasSubstr("rope_parameters: rope_theta = 500000"), HasSubstr("rope_scaling")));
}

}  // namespace
}  // namespace mla
