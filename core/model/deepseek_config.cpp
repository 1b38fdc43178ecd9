#include "core/model/deepseek_config.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/model/family.h"
#include "core/model/rope_config.h"

namespace mla {
namespace {

constexpr const char *kType = "deepseek_v3", *kOthersClass = "LlamaMLAForCausalLM";
/// Without a key, transformers takes these.
constexpr std::int64_t kDefaultDense = 3, kDefaultPositions = 4096;
/// Widths of heads whose ladders are tried for a list of frequencies, and how near the list must be, in pairs.
constexpr std::int64_t kMostLadderDim = 1024;
constexpr double kOnLadder = 1e-5;

/// Pairs of a model's ladder of frequencies.
struct LadderPairs {
  std::int64_t dim = 0;
  std::vector<std::int64_t> pairs;
};

bool is_others(const Json& config) {
  const Json classes = config.value("architectures", Json::array());
  return classes.is_array() && std::find(classes.begin(), classes.end(), kOthersClass) != classes.end();
}

/// The object that states the rotation, and its type.
Json rotation_of(const Json& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json value = config.value(key, Json());
    if (value.is_object() && !value.empty()) return value;
  }
  return Json::object();
}

std::string type_of(const Json& rotation) {
  const Json type = rotation.value("rope_type", rotation.value("type", Json("default")));
  return type.is_string() ? type.get<std::string>() : "";
}

[[noreturn]] void refuse_list(const std::string& name, const std::string& what) {
  throw DataError(cat(name, ": rope_parameters: longrope is read where its frequencies are those of a ladder: ", what));
}

/// The narrowest ladder of theta that holds all these frequencies: logarithms are multiples of 2 / dim.
std::optional<LadderPairs> on_ladder(const std::vector<double>& logarithms) {
  for (std::int64_t dim = 2; dim <= kMostLadderDim; dim += 2) {
    LadderPairs found{dim, {}};
    for (const double logarithm : logarithms) {
      const double pair = logarithm * static_cast<double>(dim) / 2;
      if (std::abs(pair - std::round(pair)) > kOnLadder || pair < -0.5 || std::llround(pair) >= dim / 2) break;
      found.pairs.push_back(std::llround(pair));
    }
    if (found.pairs.size() == logarithms.size()) return found;
  }
  return {};
}

LadderPairs listed_pairs(const Json& rotation, double theta, std::int64_t rotated, const std::string& name) {
  const Json factors = rotation.value("short_factor", Json());
  if (!factors.is_array() || factors != rotation.value("long_factor", Json()) || 2 * std::ssize(factors) != rotated)
    refuse_list(name, cat("short_factor and long_factor must be the same list of ", rotated / 2));
  if (rotation.value("attention_factor", Json()) != 1) refuse_list(name, "attention_factor must be 1");
  std::vector<double> logarithms;  // to the base 1 / theta
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!factors[i].is_number() || !(factors[i].get<double>() > 0)) refuse_list(name, "a factor is no positive number");
    logarithms.push_back(2 * static_cast<double>(i) / static_cast<double>(rotated) +
                         std::log(factors[i].get<double>()) / std::log(theta));
  }
  const std::optional<LadderPairs> found = on_ladder(logarithms);
  if (!found) refuse_list(name, cat("these are none of rope_theta = ", theta));
  return *found;
}

/// Takes a list of frequencies out of the config: what is left states the ladder that they are on.
LadderPairs take_pairs(Json& config, std::int64_t rotated, const std::string& name) {
  const Json rotation = rotation_of(config);
  const std::string type = type_of(rotation);
  if (type == "yarn" || type == "deepseek_yarn")
    throw DataError(cat(name, ": rope_type = ", type,
                        ": how this class scales logits by it is not read here; known: ", "default, linear, longrope"));
  LadderPairs pairs{rotated, {}};
  for (std::int64_t pair = 0; pair < rotated / 2; ++pair) pairs.pairs.push_back(pair);
  if (type != "longrope") return pairs;
  const Json theta = rotation.value("rope_theta", config.value("rope_theta", Json()));
  if (!theta.is_number() || !(theta.get<double>() > 1)) refuse_list(name, "rope_theta must be a number above 1");
  pairs = listed_pairs(rotation, theta.get<double>(), rotated, name);
  config["rope_theta"] = theta;
  config.erase("rope_scaling");
  config.erase("rope_parameters");
  return pairs;
}

/// Refuses layers with experts; without them the keys of experts say nothing.
void read_experts(ConfigReader& reader, std::int64_t layers, bool others) {
  for (const char* key :
       {"n_routed_experts", "n_shared_experts", "num_experts_per_tok", "n_group", "topk_group", "moe_intermediate_size",
        "moe_layer_freq", "num_nextn_predict_layers", "norm_topk_prob", "routed_scaling_factor", "topk_method",
        "scoring_func", "ep_size", "aux_loss_alpha", "seq_aux", "num_local_experts"})
    reader.value(key);
  const std::int64_t dense = reader.integer_or("first_k_dense_replace", others ? layers : kDefaultDense);
  if (dense < layers)
    reader.refuse("first_k_dense_replace", cat("layers from ", dense, " on are mixtures of experts, which are not ",
                                               "read; expected num_hidden_layers = ", layers));
}

DeepSeekFile read_file(ConfigReader& reader, bool others) {
  DeepSeekFile file;
  file.latent = reader.size("kv_lora_rank", 2 * kMostHeadRows);
  file.rotated = reader.size("qk_rope_head_dim", kMostHeadDim);
  file.content = reader.size("qk_nope_head_dim", kMostHeadDim);
  file.value = reader.size("v_head_dim", kMostHeadDim);
  if (file.rotated % 2 != 0) reader.refuse("qk_rope_head_dim", "must be even");
  reader.require("qk_head_dim", file.content + file.rotated, "must be qk_nope_head_dim + qk_rope_head_dim");
  reader.require("head_dim", file.rotated, "must be qk_rope_head_dim");
  if (!reader.has("q_lora_rank") && !reader.is_null("q_lora_rank") && !others)
    reader.refuse("q_lora_rank", "must be stated, null for queries without a low rank: left out it means 1536");
  reader.value("q_lora_rank");
  if (reader.has("q_lora_rank")) file.query_rank = reader.size("q_lora_rank", kMostHeadRows);
  file.latent_norm = reader.boolean_or("qk_latent_layernorm", true);
  file.neighbours = reader.boolean_or("rope_interleave", true);
  if (others && !file.neighbours) reader.refuse("rope_interleave", "this class always rotates neighbouring dims");
  file.bias = reader.boolean_or("attention_bias", false);
  file.output_bias = file.bias && !others;
  return file;
}

HeadFields heads_of(const DeepSeekFile& file, std::int64_t count, bool others) {
  HeadFields heads;
  heads.heads = heads.kv_heads = count;
  heads.head_dim = file.content + file.rotated;
  heads.query_bias = file.bias && (others || file.query_rank > 0);
  heads.key_bias = file.bias;
  heads.value_bias = file.bias && !file.latent_norm;
  heads.output_bias = file.output_bias;
  return heads;
}

LatentLayout layout_of(const DeepSeekFile& file, std::vector<std::int64_t> pairs) {
  LatentLayout layout;
  layout.kept = {std::move(pairs)};
  layout.content_width = file.content;
  layout.value_width = file.value;
  layout.latent_width = file.latent;
  layout.key = layout.value = {0, file.latent};
  layout.latent_norm = file.latent_norm;
  return layout;
}

}  // namespace

bool is_deepseek_config(const Json& config) {
  return config.is_object() && config.value("model_type", Json()) == kType;
}

ModelSpec read_deepseek_config(const Json& stated, const std::string& name, DeepSeekFile* file) {
  Json config = stated;
  const bool others = is_others(config);
  const DeepSeekFile found = [&] {
    ConfigReader sizes(stated, name);
    return read_file(sizes, others);
  }();
  const LadderPairs pairs = take_pairs(config, found.rotated, name);
  config["head_dim"] = pairs.dim;
  ConfigReader reader(config, name);
  for (const char* key : {"model_type", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim",
                          "qk_head_dim", "q_lora_rank", "qk_latent_layernorm", "rope_interleave", "attention_bias"})
    reader.value(key);
  UniformModel uniform = read_common_config(reader, {.max_positions = kDefaultPositions});
  if (uniform.heads.kv_heads != uniform.heads.heads)
    reader.refuse("num_key_value_heads", cat("must be num_attention_heads = ", uniform.heads.heads, " in this class"));
  read_experts(reader, uniform.layers, others);
  reader.require("mlp_bias", false, "the feed-forward part of this class has no biases");
  read_rotary(reader, uniform.model, nullptr);
  reader.finish();
  ModelSpec spec = std::move(uniform.model);
  spec.family = "llama";
  const auto attention = std::make_shared<LatentSpec>(
      LatentSpec::Options{layout_of(found, pairs.pairs), heads_of(found, uniform.heads.heads, others)});
  for (std::int64_t layer = 0; layer < uniform.layers; ++layer)
    spec.layers.push_back({attention, uniform.feed_forward, layer});
  try {
    check_spec(spec, name);
  } catch (const ConfigError& error) {
    throw DataError(error.what());
  }
  if (file) *file = found;
  return spec;
}

}  // namespace mla
