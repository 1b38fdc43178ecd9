// Others' folders of model type deepseek_v3, read by us.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/deepseek_config.h"
#include "core/model/weight_files.h"
#include "core/serve/compare_models.h"
#include "tests/serve/served_models.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::message_of;
using ::testing::HasSubstr;

constexpr double kSameRead = 5e-5;

/// An exported folder whose parts can be changed.
class OthersFolder {
 public:
  explicit OthersFolder(const std::string& kind = "gqa") : model(test::served_model(kind, test::shared_key())) {
    test::exported(model, folder_);
    config = read_json(path() / "config.json");
    for (const auto& [name, tensor] : read_weight_files(path())) tensors[name] = tensor.clone();
  }
  std::filesystem::path path() const { return folder_ / "out"; }
  Decoder read() const {
    write_safetensors(path() / kWeightsFile, {tensors.begin(), tensors.end()});
    write_json(path() / "config.json", config);
    return load_checkpoint(path()).decoder;
  }
  std::string refusal() const {
    return message_of<DataError>([&] { read(); });
  }
  double difference() const { return test::logit_difference(read(), model.decoder); }
  void for_each(const std::string& ending, const std::function<void(at::Tensor&)>& change) {
    for (auto& [name, tensor] : tensors) {
      if (name.ends_with(ending)) change(tensor);
    }
  }

  Checkpoint model;
  Json config;
  WeightMap tensors;

 private:
  test::TemporaryFolder folder_;
};

/// The latent as it is, without the norm that undoes how small it was made.
void take_norm_out(OthersFolder& folder) {
  const std::int64_t latent = folder.config.at("kv_lora_rank");
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const std::string attention = cat("model.layers.", layer, ".self_attn.");
    const at::Tensor weight = folder.tensors.at(attention + "kv_a_layernorm.weight") / 1e-3;
    folder.tensors.at(attention + "kv_a_proj_with_mqa.weight").narrow(0, 0, latent).mul_(weight.unsqueeze(1));
    folder.tensors.erase(attention + "kv_a_layernorm.weight");
  }
}

TEST(DeepSeekReader, FoldersWithoutTheNormSayThatTheyHaveNone) {
  OthersFolder folder;
  take_norm_out(folder);
  EXPECT_THAT(folder.refusal(), HasSubstr("kv_a_layernorm.weight is missing"));
  folder.config["qk_latent_layernorm"] = false;  // TransMLA's flag, under the library's class
  EXPECT_LT(folder.difference(), kSameRead);
  folder.config["architectures"] = {"LlamaMLAForCausalLM"};  // and under its own, without the keys of experts
  folder.config["auto_map"] = {{"AutoModelForCausalLM", "modeling_llamamla.LlamaMLAForCausalLM"}};
  folder.config["head_dim"] = folder.config["qk_rope_head_dim"];
  for (const char* key : {"first_k_dense_replace", "n_routed_experts", "n_shared_experts", "num_experts_per_tok",
                          "n_group", "topk_group", "moe_intermediate_size", "moe_layer_freq"})
    folder.config.erase(key);
  EXPECT_LT(folder.difference(), kSameRead);
}

TEST(DeepSeekReader, ARealNormIsComputed) {
  OthersFolder folder;
  const Decoder before = folder.read();
  take_norm_out(folder);
  const std::int64_t latent = folder.config.at("kv_lora_rank");
  for (std::int64_t layer = 0; layer < 2; ++layer)
    folder.tensors[cat("model.layers.", layer, ".self_attn.kv_a_layernorm.weight")] = at::ones({latent});
  const Decoder normed = folder.read();
  EXPECT_GT(test::logit_difference(normed, before), 0.01);
  // Twice the rows, the same direction: the norm takes that out again, epsilon aside.
  folder.for_each("kv_a_proj_with_mqa.weight", [&](at::Tensor& rows) { rows.narrow(0, 0, latent).mul_(1024); });
  EXPECT_LT(test::logit_difference(folder.read(), normed), 1e-3);
  const ModelComparison same = compare_models(normed, normed, test::random_ids(normed.spec(), 2, 20));
  EXPECT_LT(same.stepwise, kSameRead);
}

TEST(DeepSeekReader, HalvesInsteadOfNeighboursAreTheSameModel) {
  OthersFolder folder;
  const std::int64_t rotated = folder.config.at("qk_rope_head_dim"), content = folder.config.at("qk_nope_head_dim");
  const auto halves = [&](const at::Tensor& rows) {  // [rotated, …]: (2i, 2i + 1) to (i, i + r / 2)
    return rows.unflatten(0, {rotated / 2, 2}).transpose(0, 1).flatten(0, 1);
  };
  folder.for_each("kv_a_proj_with_mqa.weight", [&](at::Tensor& rows) {
    const std::int64_t latent = rows.size(0) - rotated;
    rows = at::cat({rows.narrow(0, 0, latent), halves(rows.narrow(0, latent, rotated))});
  });
  folder.for_each("q_proj.weight", [&](at::Tensor& rows) {
    std::vector<at::Tensor> heads;
    for (const at::Tensor& head : rows.split(content + rotated)) {
      heads.push_back(head.narrow(0, 0, content));
      heads.push_back(halves(head.narrow(0, content, rotated)));
    }
    rows = at::cat(heads);
  });
  EXPECT_GT(folder.difference(), 0.01);
  folder.config["rope_interleave"] = false;
  EXPECT_LT(folder.difference(), kSameRead);
}

TEST(DeepSeekReader, QueriesOfALowRankAreMultipliedOut) {
  OthersFolder folder;
  const std::int64_t hidden = folder.config.at("hidden_size");
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const std::string attention = cat("model.layers.", layer, ".self_attn.");
    folder.tensors[attention + "q_b_proj.weight"] = folder.tensors.at(attention + "q_proj.weight") * 2;
    folder.tensors[attention + "q_a_proj.weight"] = at::eye(hidden) / 2;
    folder.tensors.erase(attention + "q_proj.weight");
  }
  folder.config["q_lora_rank"] = hidden;
  take_norm_out(folder);
  folder.config["qk_latent_layernorm"] = false;
  EXPECT_LT(folder.difference(), kSameRead);
}

TEST(DeepSeekReader, NormalisedQueriesOfALowRankAreRefused) {
  OthersFolder folder("biases");
  folder.for_each("q_a_proj.weight", [](at::Tensor& rows) { rows.mul_(1e9); });
  EXPECT_THAT(folder.refusal(), HasSubstr("q_a_layernorm.weight: queries of a low rank that are normalised"));
}

TEST(DeepSeekReader, RefusesByNameWhatItCannotHold) {
  const auto refusal = [](const std::string& key, const Json& value) {
    static const OthersFolder sound;
    Json config = sound.config;
    if (value.is_discarded()) {
      config.erase(key);
    } else {
      config[key] = value;
    }
    return message_of<DataError>([&] { read_deepseek_config(config, "config.json"); });
  };
  const Json none(Json::value_t::discarded);
  EXPECT_THAT(refusal("first_k_dense_replace", 1), HasSubstr("layers from 1 on are mixtures of experts"));
  EXPECT_THAT(refusal("q_lora_rank", none), HasSubstr("left out it means 1536"));
  EXPECT_THAT(refusal("num_key_value_heads", 2), HasSubstr("must be num_attention_heads = 4"));
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4}};
  EXPECT_THAT(refusal("rope_parameters", yarn), HasSubstr("rope_type = yarn"));
  EXPECT_THAT(refusal("quantization_config", {{"quant_method", "fp8"}}), HasSubstr("quantization_config"));
  EXPECT_THAT(refusal("qk_rope_head_dim", 3), HasSubstr("must be even"));
  EXPECT_THAT(refusal("hidden_act", "gelu"), HasSubstr("hidden_act"));
  EXPECT_THAT(refusal("kv_lora_rank", none), HasSubstr("kv_lora_rank"));
  EXPECT_EQ(refusal("bos_token_id", 0), "no error");
}

TEST(DeepSeekReader, WhatWasReadIsSavedAsAConvertedModelOfOurs) {
  const OthersFolder folder;
  const test::TemporaryFolder saved;
  const Checkpoint read = load_checkpoint(folder.path());
  save_checkpoint(read, saved / "own");
  const Checkpoint again = load_checkpoint(saved / "own");
  EXPECT_EQ(again.decoder.spec(), read.decoder.spec());
  EXPECT_EQ(test::logit_difference(again.decoder, read.decoder), 0);
}

}  // namespace
}  // namespace mla
