// Rules of folders that engines load: a folder for each that breaks it.
#include "core/serve/served_folder.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "tests/serve/served_models.h"

namespace mla {
namespace {

using ::testing::HasSubstr;
using Names = std::vector<std::string>;

/// A folder that every engine loads.
const ServedFolder& sound_folder() {
  static const test::TemporaryFolder folder;
  static const ServedFolder sound = [] {
    test::exported(test::served_model("gqa", test::shared_key()), folder);
    return open_served_folder(folder / "out");
  }();
  return sound;
}

/// The engines that no longer load the folder once `change` was made to it, and the reason of the first.
std::pair<Names, std::string> lost(const std::function<void(ServedFolder&)>& change) {
  ServedFolder folder = sound_folder();
  change(folder);
  Names engines;
  std::string reason;
  for (const EngineVerdict& verdict : judge_folder(folder)) {
    if (verdict.loads) continue;
    if (engines.empty()) reason = verdict.reason;
    engines.push_back(verdict.engine);
  }
  return {engines, reason};
}

std::function<void(ServedFolder&)> setting(const std::string& key, const Json& value) {
  return [=](ServedFolder& folder) { folder.config[key] = value; };
}
std::function<void(ServedFolder&)> without(const std::string& key) {
  return [=](ServedFolder& folder) { folder.config.erase(key); };
}

TEST(ServedFolder, ASoundOneIsLoadedByAll) {
  EXPECT_THAT(lost([](ServedFolder&) {}).first, testing::IsEmpty());
}

struct BrokenFolder {
  std::string reason;  ///< part of it
  Names engines;
  std::function<void(ServedFolder&)> change;
};

const Names kAll = {kTransformers, kVllm, kSglang, kLlamaCpp, kMlx};

std::vector<BrokenFolder> broken_configs() {
  return {
      {"model_type = ", kAll, setting("model_type", "llama")},
      {"architectures = ", kAll, setting("architectures", {"LlamaForCausalLM"})},
      {"hidden_size is absent", kAll, without("hidden_size")},
      {"kv_lora_rank = 0", kAll, setting("kv_lora_rank", 0)},
      {"qk_rope_head_dim = 0", kAll, setting("qk_rope_head_dim", 0)},
      {"qk_rope_head_dim = 3", kAll, setting("qk_rope_head_dim", 3)},
      {"num_key_value_heads = 2", {kTransformers}, setting("num_key_value_heads", 2)},
      {"q_lora_rank is absent", kAll, without("q_lora_rank")},
      {"first_k_dense_replace = 1", kAll, setting("first_k_dense_replace", 1)},
      {"n_routed_experts = null", {kTransformers, kVllm}, setting("n_routed_experts", Json())},
      {"topk_group is absent", {kTransformers, kVllm, kSglang}, without("topk_group")},
      {"moe_intermediate_size", {kLlamaCpp}, without("moe_intermediate_size")},
      {"moe_layer_freq", {kSglang}, without("moe_layer_freq")},
      {"num_nextn_predict_layers = 1", {kVllm, kSglang}, setting("num_nextn_predict_layers", 1)},
      {"rope_interleave = false", {kVllm, kLlamaCpp, kMlx}, setting("rope_interleave", false)},
      {"rms_norm_eps = 1e-05", {kTransformers, kMlx}, setting("rms_norm_eps", 1e-5)},
      {"hidden_act = \"gelu\"", kAll, setting("hidden_act", "gelu")},
      {"rope_theta is absent", {kMlx}, without("rope_theta")},
      {"rope_scaling = ", {kMlx}, setting("rope_scaling", {{"rope_type", "linear"}, {"factor", 2}})},
  };
}

TEST(ServedFolder, EachRuleOfTheConfigHasItsEngines) {
  for (const BrokenFolder& folder : broken_configs()) {
    const auto [engines, reason] = lost(folder.change);
    EXPECT_THAT(reason, HasSubstr(folder.reason));
    EXPECT_EQ(engines, folder.engines) << folder.reason;
  }
}

TEST(ServedFolder, RotationsThatAreNoLadderCostEngines) {
  const auto with_rope = [](const Json& rope) {
    return [=](ServedFolder& folder) { folder.config["rope_parameters"] = folder.config["rope_scaling"] = rope; };
  };
  const double theta = sound_folder().config.at("rope_theta").get<double>();
  Json list = {{"rope_type", "longrope"},
               {"rope_theta", theta},
               {"short_factor", {1.0, 2.0}},
               {"long_factor", {1.0, 2.0}},
               {"attention_factor", 1.0}};
  EXPECT_EQ(lost(with_rope(list)).first, (Names{kVllm, kSglang, kLlamaCpp}));
  Json scaled = list;
  scaled.erase("attention_factor");
  EXPECT_EQ(lost(with_rope(scaled)).first, kAll);
  EXPECT_THAT(lost(with_rope(scaled)).second, HasSubstr("attention_factor = null: must be 1"));
  Json short_list = list;
  short_list["long_factor"] = {1.0};
  EXPECT_THAT(lost(with_rope(short_list)).second, HasSubstr("must be the same list"));
  const Json linear = {{"rope_type", "linear"}, {"rope_theta", theta}, {"factor", 2.0}};
  EXPECT_EQ(lost(with_rope(linear)).first, (Names{kVllm, kSglang}));
}

TEST(ServedFolder, TensorsAreThoseThatTheConfigAnnounces) {
  const std::string attention = "model.layers.0.self_attn.";
  const auto expect_lost = [&](const std::string& reason, const std::function<void(ServedFolder&)>& change) {
    const auto [engines, found] = lost(change);
    EXPECT_EQ(engines, kAll) << reason;
    EXPECT_THAT(found, HasSubstr(reason));
  };
  expect_lost("kv_a_layernorm.weight is missing: engines take ones",
              [&](ServedFolder& folder) { folder.tensors.erase(attention + "kv_a_layernorm.weight"); });
  expect_lost("lm_head.weight is missing: engines take random numbers",
              [](ServedFolder& folder) { folder.tensors.erase("lm_head.weight"); });
  expect_lost("q_proj.bias has no place in this class, which is without that bias",
              [&](ServedFolder& folder) { folder.tensors[attention + "q_proj.bias"] = at::zeros({4}); });
  expect_lost("kv_b_proj.weight has the shape", [&](ServedFolder& folder) {
    at::Tensor& up = folder.tensors[attention + "kv_b_proj.weight"];
    up = up.narrow(0, 0, up.size(0) / 2);
  });
  expect_lost("in float16: rows of the latent as small as that needs vanish", [&](ServedFolder& folder) {
    at::Tensor& norm = folder.tensors[attention + "kv_a_layernorm.weight"];
    norm = at::full_like(norm, 20000).to(at::kHalf);
  });
}

TEST(ServedFolder, TiedEmbeddingsAreUntiedForTwoEngines) {
  const auto tie = [](ServedFolder& folder) {
    folder.config["tie_word_embeddings"] = true;
    folder.tensors.erase("lm_head.weight");
  };
  EXPECT_EQ(lost(tie).first, (Names{kVllm, kMlx}));
}

TEST(ServedFolder, HeadsOfRotatedDimsAloneFailInOneEngine) {
  const auto bare = [](ServedFolder& folder) {
    const std::int64_t heads = folder.config.at("num_attention_heads"), content = folder.config.at("qk_nope_head_dim"),
                       rotated = folder.config.at("qk_rope_head_dim"), value = folder.config.at("v_head_dim");
    folder.config["qk_nope_head_dim"] = 0;
    for (auto& [name, tensor] : folder.tensors) {
      if (name.ends_with("q_proj.weight"))
        tensor = tensor.unflatten(0, {heads, content + rotated}).narrow(1, content, rotated).flatten(0, 1);
      if (name.ends_with("kv_b_proj.weight"))
        tensor = tensor.unflatten(0, {heads, content + value}).narrow(1, content, value).flatten(0, 1);
    }
  };
  EXPECT_EQ(lost(bare).first, (Names{kLlamaCpp}));
}

}  // namespace
}  // namespace mla
