#include "core/model/family.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/model/rope_config.h"

namespace mla {
namespace {

constexpr std::int64_t kDefaultWindow = 4096, kDefaultWindowLayers = 28;

std::int64_t read_head_dim(ConfigReader& config, const Geometry& geometry, const FamilyDefaults& defaults) {
  if (config.has("head_dim")) return config.size("head_dim", kMostHeadDim);
  if (defaults.head_dim) {
    config.refuse_null("head_dim");
    return *defaults.head_dim;
  }
  if (geometry.hidden % geometry.heads != 0) {
    config.refuse("hidden_size",
                  cat("is not a multiple of num_attention_heads = ", geometry.heads, ", and head_dim is absent"));
  }
  return geometry.hidden / geometry.heads;
}

void read_heads(ConfigReader& config, Geometry& geometry, const FamilyDefaults& defaults) {
  geometry.heads = config.size("num_attention_heads", kMostHeads);
  // null stands for one KV head per query head; a key that is left out for what the family assumes.
  const bool stated = config.has("num_key_value_heads") || config.is_null("num_key_value_heads");
  geometry.kv_heads = config.size_or("num_key_value_heads",
                                     stated ? geometry.heads : defaults.kv_heads.value_or(geometry.heads), kMostHeads);
  if (geometry.heads % geometry.kv_heads != 0) {
    config.refuse("num_key_value_heads", cat("must divide num_attention_heads = ", geometry.heads,
                                             stated ? "" : cat("; left out, it means ", geometry.kv_heads)));
  }
  geometry.head_dim = read_head_dim(config, geometry, defaults);
  if (geometry.head_dim % 2 != 0) {
    config.refuse("head_dim", cat("the head dimension must be positive and even, it is ", geometry.head_dim));
  }
  if (geometry.heads * geometry.head_dim > kMostHeadRows) {
    config.refuse("num_attention_heads",
                  cat("times the head dimension ", geometry.head_dim, " is more than ", kMostHeadRows));
  }
}

/// The types that layer_types names, one a layer; empty where the key is absent.
std::vector<std::string> read_layer_types(ConfigReader& config, std::int64_t layers) {
  const Json list = config.value("layer_types");
  std::vector<std::string> types;
  if (list.is_null()) return types;
  if (!list.is_array() || std::ssize(list) != layers) {
    config.refuse("layer_types", cat("must list one type for each of ", layers, " layers"));
  }
  for (const Json& type : list) {
    if (type != "full_attention" && type != "sliding_attention") {
      config.refuse("layer_types", cat("no '", brief(type), "'; known: full_attention, sliding_attention"));
    }
    types.push_back(type.get<std::string>());
  }
  return types;
}

Geometry read_with(ConfigReader& reader, std::vector<std::pair<std::string, std::string>>* passed_over) {
  const std::string family = reader.string_or("model_type", "");
  const auto& registry = Registry<Family>::instance();
  const auto names = registry.names();
  if (std::find(names.begin(), names.end(), family) == names.end()) {
    throw DataError(cat(reader.name(), ": model_type: ", unknown_name(brief_text(family), names)));
  }
  Geometry geometry = registry.find(family, "model_type").make(Json::object(), "")->read(reader);
  read_rotary(reader, geometry, passed_over);
  geometry.family = family;
  reader.finish();
  return geometry;
}

}  // namespace

Geometry read_common_geometry(ConfigReader& config, const FamilyDefaults& defaults) {
  Geometry geometry;
  geometry.vocabulary = config.size("vocab_size", kMostVocabulary);
  geometry.hidden = config.size("hidden_size", kMostHidden);
  geometry.intermediate = config.size("intermediate_size", kMostIntermediate);
  geometry.layers = config.size("num_hidden_layers", kMostLayers);
  for (const char* key : {"max_position_embeddings", "rms_norm_eps", "hidden_act"}) config.refuse_null(key);
  geometry.max_positions = config.size_or("max_position_embeddings", defaults.max_positions, kMostPositions);
  read_heads(config, geometry, defaults);
  geometry.norm_epsilon = config.number_or("rms_norm_eps", geometry.norm_epsilon);
  if (!(geometry.norm_epsilon > 0)) config.refuse("rms_norm_eps", "must be greater than 0");
  geometry.tied_embeddings = config.boolean_or("tie_word_embeddings", false);
  const std::vector<std::int64_t> begin = config.tokens("bos_token_id");
  if (!begin.empty()) geometry.bos = begin.front();
  geometry.ends = config.tokens("eos_token_id");
  if (!geometry.ends.empty()) geometry.eos = geometry.ends.front();
  const std::string activation = config.string_or("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") config.refuse("hidden_act", "not supported; known: silu");
  config.require("partial_rotary_factor", 1.0, "only 1 is supported");
  config.require("pruned_heads", Json::object(), "not supported: heads are missing from the weights");
  return geometry;
}

std::vector<std::int64_t> read_layer_windows(ConfigReader& config, std::int64_t layers) {
  const bool used = config.boolean_or("use_sliding_window", false);
  // null: no window although it is to be used.
  const bool none = config.is_null("sliding_window");
  std::int64_t window = config.size_or("sliding_window", none ? 0 : kDefaultWindow, kMostPositions);
  if (!used) window = 0;
  config.refuse_null("max_window_layers");
  const std::int64_t first = config.integer_or("max_window_layers", kDefaultWindowLayers);
  if (first < 0) config.refuse("max_window_layers", "must not be negative");
  const std::vector<std::string> types = read_layer_types(config, layers);
  std::vector<std::int64_t> windows(static_cast<std::size_t>(layers), 0);
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const bool sliding = types.empty() ? static_cast<std::int64_t>(i) >= first : types[i] == "sliding_attention";
    if (sliding && !types.empty() && window == 0)
      config.refuse("layer_types", "a sliding layer needs use_sliding_window and sliding_window");
    if (sliding) windows[i] = window;
  }
  return windows;
}

void expect_layer_types(ConfigReader& config, std::int64_t layers, const std::string& only) {
  for (const std::string& type : read_layer_types(config, layers)) {
    if (type != only) config.refuse("layer_types", cat("layers of this family are all ", only));
  }
}

Geometry read_geometry(const Json& config, const std::string& name) {
  ConfigReader reader(config, name);
  return read_with(reader, nullptr);
}

std::vector<std::pair<std::string, std::string>> passed_over_keys(const Json& config, const std::string& name) {
  ConfigReader reader(config, name);
  std::vector<std::pair<std::string, std::string>> inner;
  read_with(reader, &inner);
  auto keys = reader.passed_over();
  keys.insert(keys.end(), inner.begin(), inner.end());
  return keys;
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
