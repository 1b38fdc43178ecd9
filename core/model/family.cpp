#include "core/model/family.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr double kDefaultTheta = 10000;

RotaryScaling read_scaling(ConfigReader& scaling, std::int64_t max_positions) {
  RotaryScaling rule;
  const std::string old_name = scaling.string_or("type", "default");
  rule.type = scaling.string_or("rope_type", old_name);
  const std::vector<std::string> known = {"default", "linear", "dynamic", "llama3", "yarn"};
  if (std::find(known.begin(), known.end(), rule.type) == known.end()) {
    scaling.refuse(scaling.has("rope_type") ? "rope_type" : "type", "not supported; known: " + join(known));
  }
  scaling.require("partial_rotary_factor", 1.0, "only 1 is supported");
  if (rule.type == "default") {
    for (const char* unused : {"factor", "original_max_position_embeddings"}) scaling.value(unused);
    return rule;
  }
  rule.original_positions = scaling.integer_or("original_max_position_embeddings", max_positions);
  if (rule.type == "yarn" && !scaling.has("factor")) {
    scaling.value("factor");
    rule.factor = static_cast<double>(max_positions) / static_cast<double>(rule.original_positions);
  } else {
    if (!scaling.has("factor")) scaling.refuse("factor", "needed for " + rule.type);
    rule.factor = scaling.number_or("factor", 1);
  }
  if (rule.factor < 1) scaling.refuse("factor", "must be >= 1");
  if (rule.type == "llama3") {
    for (const char* needed : {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
      if (!scaling.has(needed)) scaling.refuse(needed, "needed for llama3");
    }
    rule.low_frequency_factor = scaling.number_or("low_freq_factor", 1);
    rule.high_frequency_factor = scaling.number_or("high_freq_factor", 4);
    if (rule.high_frequency_factor <= rule.low_frequency_factor)
      scaling.refuse("high_freq_factor", "must exceed low_freq_factor");
  } else if (rule.type == "yarn") {
    rule.beta_fast = scaling.number_or("beta_fast", rule.beta_fast);
    rule.beta_slow = scaling.number_or("beta_slow", rule.beta_slow);
    rule.truncate = scaling.boolean_or("truncate", true);
    rule.attention_factor = scaling.optional_number("attention_factor");
    rule.mscale = scaling.optional_number("mscale");
    rule.mscale_all_dim = scaling.optional_number("mscale_all_dim");
  }
  return rule;
}

/// Both styles: rope_theta beside rope_scaling, or everything inside rope_parameters.
void read_rotary(ConfigReader& config, Geometry& geometry) {
  geometry.rope_theta = config.number_or("rope_theta", kDefaultTheta);
  const Json old_style = config.value("rope_scaling");
  const Json new_style = config.value("rope_parameters");
  const bool is_new = !new_style.is_null();
  const std::string key = is_new ? "rope_parameters" : "rope_scaling";
  const Json& parameters = is_new ? new_style : old_style;
  if (parameters.is_null()) return;
  if (!parameters.is_object()) config.refuse(key, "must be an object");
  ConfigReader scaling(parameters, config.name() + ": " + key);
  geometry.rope_theta = scaling.number_or("rope_theta", geometry.rope_theta);
  geometry.rope_scaling = read_scaling(scaling, geometry.max_positions);
  scaling.finish();
}

void check_sizes(const ConfigReader& config, const Geometry& geometry) {
  const auto positive = [&](const char* key, std::int64_t value) {
    if (value <= 0) config.refuse(key, "must be positive");
  };
  positive("vocab_size", geometry.vocabulary);
  positive("hidden_size", geometry.hidden);
  positive("intermediate_size", geometry.intermediate);
  positive("num_hidden_layers", geometry.layers);
  positive("num_attention_heads", geometry.heads);
  positive("num_key_value_heads", geometry.kv_heads);
  positive("max_position_embeddings", geometry.max_positions);
  if (geometry.heads % geometry.kv_heads != 0) {
    config.refuse("num_key_value_heads", cat("must divide num_attention_heads = ", geometry.heads));
  }
  if (geometry.head_dim <= 0 || geometry.head_dim % 2 != 0) {
    config.refuse("head_dim", cat("the head dimension must be positive and even, it is ", geometry.head_dim));
  }
}

}  // namespace

Geometry read_common_geometry(ConfigReader& config) {
  Geometry geometry;
  geometry.vocabulary = config.integer("vocab_size");
  geometry.hidden = config.integer("hidden_size");
  geometry.intermediate = config.integer("intermediate_size");
  geometry.layers = config.integer("num_hidden_layers");
  geometry.heads = config.integer("num_attention_heads");
  geometry.kv_heads = config.integer_or("num_key_value_heads", geometry.heads);
  geometry.max_positions = config.integer_or("max_position_embeddings", geometry.max_positions);
  geometry.head_dim = config.integer_or("head_dim", 0);
  if (geometry.head_dim == 0 && geometry.heads > 0) {
    if (geometry.hidden % geometry.heads != 0) {
      config.refuse("hidden_size",
                    cat("is not a multiple of num_attention_heads = ", geometry.heads, ", and head_dim is absent"));
    }
    geometry.head_dim = geometry.hidden / geometry.heads;
  }
  geometry.norm_epsilon = config.number_or("rms_norm_eps", geometry.norm_epsilon);
  geometry.tied_embeddings = config.boolean_or("tie_word_embeddings", false);
  geometry.bos = config.optional_token("bos_token_id");
  geometry.eos = config.optional_token("eos_token_id");
  config.require("hidden_act", "silu", "not supported; known: silu");
  config.require("partial_rotary_factor", 1.0, "only 1 is supported");
  check_sizes(config, geometry);
  read_rotary(config, geometry);
  return geometry;
}

std::vector<std::int64_t> read_layer_windows(ConfigReader& config, std::int64_t layers) {
  const bool used = config.boolean_or("use_sliding_window", false);
  const std::int64_t window = config.integer_or("sliding_window", 0);
  const std::int64_t first = config.integer_or("max_window_layers", layers);
  const Json types = config.value("layer_types");
  std::vector<std::int64_t> windows(static_cast<std::size_t>(layers), 0);
  if (!types.is_null() && (!types.is_array() || types.size() != windows.size())) {
    config.refuse("layer_types", cat("must list one type for each of ", layers, " layers"));
  }
  for (std::size_t i = 0; i < windows.size(); ++i) {
    bool sliding = used && static_cast<std::int64_t>(i) >= first;
    if (!types.is_null()) {
      sliding = types[i] == "sliding_attention";
      if (!sliding && types[i] != "full_attention") {
        config.refuse("layer_types", cat("no '", types[i].dump(), "'; known: full_attention, sliding_attention"));
      }
      if (sliding && (!used || window <= 0))
        config.refuse("layer_types", "a sliding layer needs use_sliding_window and sliding_window");
    }
    if (sliding) windows[i] = window;
  }
  return windows;
}

Geometry read_geometry(const Json& config, const std::string& name) {
  ConfigReader reader(config, name);
  const std::string family = reader.string_or("model_type", "");
  const auto& registry = Registry<Family>::instance();
  const auto names = registry.names();
  if (std::find(names.begin(), names.end(), family) == names.end()) {
    throw DataError(cat(name, ": model_type: ", unknown_name(family, names)));
  }
  Geometry geometry = registry.find(family, "model_type").make(Json::object(), "")->read(reader);
  geometry.family = family;
  reader.finish();
  return geometry;
}

Json make_config(const Geometry& geometry) {
  expects(geometry.family == "llama" && geometry.rope_scaling.type == "default" && geometry.windows.empty(),
          "a config is made for plain llama models only");
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"hidden_act", "silu"},
                 {"vocab_size", geometry.vocabulary},
                 {"hidden_size", geometry.hidden},
                 {"intermediate_size", geometry.intermediate},
                 {"num_hidden_layers", geometry.layers},
                 {"num_attention_heads", geometry.heads},
                 {"num_key_value_heads", geometry.kv_heads},
                 {"head_dim", geometry.head_dim},
                 {"max_position_embeddings", geometry.max_positions},
                 {"rms_norm_eps", geometry.norm_epsilon},
                 {"rope_theta", geometry.rope_theta},
                 {"tie_word_embeddings", geometry.tied_embeddings},
                 {"attention_bias", geometry.query_bias},
                 {"mlp_bias", geometry.mlp_bias}};
  if (geometry.bos) config["bos_token_id"] = *geometry.bos;
  if (geometry.eos) config["eos_token_id"] = *geometry.eos;
  return config;
}

}  // namespace mla
