// Rules of config.json; each stands for something that an engine does.
#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/serve/identity_norm.h"
#include "core/serve/served_folder.h"

namespace mla {
namespace {

using Engines = std::vector<std::string>;
/// What breaks the rule; nothing where the config keeps it.
using Finding = std::optional<std::string>;

struct ConfigRule {
  Engines engines;
  std::function<Finding(const Json& config)> finding;
};

/// The value of a key; null where it is absent.
Json at(const Json& config, const char* key) { return config.value(key, Json()); }

Finding unless(bool kept, const Json& config, const char* key, const std::string& must) {
  if (kept) return {};
  return cat(key, config.contains(key) ? cat(" = ", brief(config.at(key))) : " is absent", ": ", must);
}

Finding equal(const Json& config, const char* key, const Json& wanted, const std::string& why) {
  return unless(at(config, key) == wanted, config, key, cat("must be ", wanted.dump(), why));
}

Finding whole(const Json& config, const std::vector<const char*>& keys, std::int64_t least, const std::string& why) {
  for (const char* key : keys) {
    const Json value = at(config, key);
    if (!value.is_number_integer() || value < least)
      return unless(false, config, key, cat("must be a whole number, ", least, " or more", why));
  }
  return {};
}

/// The rotary settings as transformers 5 states them; without them, as earlier ones did.
Json rope_of(const Json& config) {
  const Json parameters = at(config, "rope_parameters"), scaling = at(config, "rope_scaling");
  if (parameters.is_object()) return parameters;
  return scaling.is_object() ? scaling : Json{{"rope_type", "default"}};
}

std::string rope_type(const Json& config) {
  const Json rope = rope_of(config), type = rope.value("rope_type", rope.value("type", Json("default")));
  return type.is_string() ? type.get<std::string>() : "";
}

Finding of_type(const Json& config, const Engines& known, const std::string& why) {
  const std::string type = rope_type(config);
  if (std::find(known.begin(), known.end(), type) != known.end()) return {};
  return cat("rope_parameters.rope_type = ", type, ": must be among ", join(known), ": ", why);
}

Finding whole_rotation(const Json& config) {
  if (const Finding finding = whole(config, {"qk_rope_head_dim"}, 2, ": without a rotated key the first pass fails"))
    return finding;
  return unless(at(config, "qk_rope_head_dim").get<std::int64_t>() % 2 == 0, config, "qk_rope_head_dim",
                "must be even, since dims rotate in pairs");
}

Finding listed_frequencies(const Json& config) {
  if (rope_type(config) != "longrope") return {};
  const Json rope = rope_of(config);
  if (rope.value("attention_factor", Json()) != 1)
    return cat("rope_parameters.attention_factor = ", brief(rope.value("attention_factor", Json())),
               ": must be 1, or cosines and sines are multiplied by a factor");
  const Json factors = rope.value("short_factor", Json()), width = at(config, "qk_rope_head_dim");
  if (factors.is_array() && factors == rope.value("long_factor", Json()) && width.is_number_integer() &&
      2 * std::ssize(factors) == width.get<std::int64_t>())
    return {};
  return "rope_parameters: short_factor and long_factor must be the same list, one for each pair of qk_rope_head_dim";
}

Finding spelled_twice(const Json& config) {
  const Json rope = rope_of(config);
  if (const Finding finding = unless(at(config, "rope_theta").is_number(), config, "rope_theta",
                                     "must stand in config.json itself, too: MLX and older engines read that one"))
    return finding;
  return unless(rope.value("rope_theta", at(config, "rope_theta")) == at(config, "rope_theta"), config, "rope_theta",
                "differs from that of rope_parameters");
}

Finding same_scaling(const Json& config) {
  const Json legacy = at(config, "rope_scaling");
  const bool same = legacy.is_object() ? legacy.value("rope_type", legacy.value("type", Json())) == rope_type(config)
                                       : rope_type(config) == "default";
  return unless(
      same, config, "rope_scaling",
      cat("must say the same as rope_parameters, ", rope_type(config), ": MLX and older engines read this one"));
}

const std::vector<ConfigRule>& config_rules() {
  const Engines all = known_engines();
  static const std::vector<ConfigRule> rules = {
      {all, [](const Json& c) { return equal(c, "model_type", kDeepSeekType, ", by which engines know the class"); }},
      {all,
       [](const Json& c) {
         return equal(c, "architectures", Json::array({kDeepSeekClass}), ", by which engines choose the class");
       }},
      {all,
       [](const Json& c) {
         return whole(c,
                      {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                       "max_position_embeddings", "kv_lora_rank", "v_head_dim"},
                      1, "");
       }},
      {all, whole_rotation},
      {all, [](const Json& c) { return whole(c, {"qk_nope_head_dim"}, 0, ""); }},
      {{kLlamaCpp}, [](const Json& c) { return whole(c, {"qk_nope_head_dim"}, 1, ": llama.cpp wants such dims"); }},
      {{kTransformers},
       [](const Json& c) {
         return unless(at(c, "num_key_value_heads") == at(c, "num_attention_heads"), c, "num_key_value_heads",
                       cat("must be num_attention_heads = ", at(c, "num_attention_heads").dump(),
                           ": transformers repeats keys by the quotient"));
       }},
      {all,
       [](const Json& c) {
         return unless(c.contains("q_lora_rank"), c, "q_lora_rank",
                       "must be stated, null for queries without a low rank: left out it means 1536");
       }},
      {all,
       [](const Json& c) {
         const Json dense = at(c, "first_k_dense_replace"), layers = at(c, "num_hidden_layers");
         return unless(
             dense.is_number_integer() && dense >= layers, c, "first_k_dense_replace",
             cat("must be num_hidden_layers = ", layers.dump(), " or more: layers behind it are mixtures of experts"));
       }},
      {{kTransformers, kVllm},
       [](const Json& c) { return whole(c, {"n_routed_experts"}, 1, ", though no layer has experts"); }},
      {{kTransformers, kVllm, kSglang},
       [](const Json& c) {
         return whole(c, {"n_shared_experts", "num_experts_per_tok", "n_group", "topk_group"}, 1,
                      ", though no layer has experts");
       }},
      {{kLlamaCpp},
       [](const Json& c) { return whole(c, {"moe_intermediate_size"}, 1, ", though no layer has experts"); }},
      {{kSglang}, [](const Json& c) { return equal(c, "moe_layer_freq", 1, ": SGLang reads it"); }},
      {{kVllm, kSglang},
       [](const Json& c) { return equal(c, "num_nextn_predict_layers", 0, ", or another layer is looked for"); }},
      {{kVllm, kSglang, kLlamaCpp},
       [](const Json& c) { return equal(c, "attention_bias", false, ": this engine has no biases in this class"); }},
      {{kVllm, kLlamaCpp, kMlx},
       [](const Json& c) {
         return equal(c, "rope_interleave", true, ": this engine always rotates neighbouring dims");
       }},
      {{kVllm, kSglang},
       [](const Json& c) { return of_type(c, {"default"}, "this engine takes every other one for yarn"); }},
      {{kLlamaCpp},
       [](const Json& c) {
         return of_type(c, {"default", "linear"}, "this engine reads no list of frequencies for this class");
       }},
      {{kTransformers, kMlx}, listed_frequencies},
      {{kMlx}, spelled_twice},
      {{kMlx}, same_scaling},
      {{kTransformers, kMlx},
       [](const Json& c) {
         return unless(at(c, "rms_norm_eps") == kLatentEpsilon, c, "rms_norm_eps",
                       cat("must be ", kLatentEpsilon, ", which the norm on the latent has in this engine, whatever ",
                           "stands here"));
       }},
      {{kVllm, kMlx},
       [](const Json& c) {
         return equal(c, "tie_word_embeddings", false, ": this engine never ties embeddings in this class");
       }},
      {all, [](const Json& c) { return equal(c, "hidden_act", "silu", ": the only one of this class"); }},
  };
  return rules;
}

}  // namespace

std::vector<BrokenRule> broken_config_rules(const Json& config) {
  std::vector<BrokenRule> broken;
  for (const ConfigRule& rule : config_rules()) {
    if (const Finding finding = rule.finding(config)) broken.push_back({rule.engines, *finding});
  }
  return broken;
}

}  // namespace mla
