#include "core/model/family.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/model/rope_config.h"

namespace mla {
namespace {

constexpr std::int64_t kDefaultWindow = 4096, kDefaultWindowLayers = 28;

std::int64_t read_head_dim(ConfigReader& config, std::int64_t hidden, std::int64_t heads,
                           const FamilyDefaults& defaults) {
  if (config.has("head_dim")) return config.size("head_dim", kMostHeadDim);
  if (defaults.head_dim) {
    config.refuse_null("head_dim");
    return *defaults.head_dim;
  }
  if (hidden % heads != 0) {
    config.refuse("hidden_size", cat("is not a multiple of num_attention_heads = ", heads, ", and head_dim is absent"));
  }
  return hidden / heads;
}

HeadFields read_heads(ConfigReader& config, std::int64_t hidden, const FamilyDefaults& defaults) {
  HeadFields heads;
  heads.heads = config.size("num_attention_heads", kMostHeads);
  // null stands for one KV head per query head; a key that is left out for what the family assumes.
  const bool stated = config.has("num_key_value_heads") || config.is_null("num_key_value_heads");
  heads.kv_heads =
      config.size_or("num_key_value_heads", stated ? heads.heads : defaults.kv_heads.value_or(heads.heads), kMostHeads);
  if (heads.heads % heads.kv_heads != 0) {
    config.refuse("num_key_value_heads", cat("must divide num_attention_heads = ", heads.heads,
                                             stated ? "" : cat("; left out, it means ", heads.kv_heads)));
  }
  heads.head_dim = read_head_dim(config, hidden, heads.heads, defaults);
  if (heads.head_dim % 2 != 0) {
    config.refuse("head_dim", cat("the head dimension must be positive and even, it is ", heads.head_dim));
  }
  if (heads.heads * heads.head_dim > kMostHeadRows) {
    config.refuse("num_attention_heads",
                  cat("times the head dimension ", heads.head_dim, " is more than ", kMostHeadRows));
  }
  return heads;
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

const char* activation_name(Activation activation) {
  return activation == Activation::kGeluTanh ? "gelu_pytorch_tanh" : "silu";
}

/// hidden_act; where the family is gated by GELU, hidden_activation, beside which hidden_act counts nothing.
void expect_activation(ConfigReader& config, Activation activation) {
  const std::string name = activation_name(activation);
  if (activation == Activation::kGeluTanh) {
    config.value("hidden_act");
    config.require("hidden_activation", name, "not supported; known: " + name);
    return;
  }
  config.refuse_null("hidden_act");
  const std::string stated = config.string_or("hidden_act", name);
  if (stated != "silu" && stated != "swish") config.refuse("hidden_act", "not supported; known: silu");
}

std::unique_ptr<Family> family_of(ConfigReader& reader) {
  const std::string name = reader.string_or("model_type", "");
  const auto& registry = Registry<Family>::instance();
  const auto names = registry.names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw DataError(cat(reader.name(), ": model_type: ", unknown_name(brief_text(name), names)));
  }
  return registry.find(name, "model_type").make(Json::object(), "");
}

ModelSpec read_with(ConfigReader& reader, std::vector<std::pair<std::string, std::string>>* passed_over) {
  UniformModel model = family_of(reader)->read(reader);
  read_rotary(reader, model.model, passed_over, model.rope);
  model.model.family = reader.string_or("model_type", "");
  reader.finish();
  return model.spec();
}

/// A list of ids stays where it is about the same one.
void set_token(Json& config, const char* key, const std::optional<std::int64_t>& id) {
  const std::vector<std::int64_t> stated = ConfigReader(config, "config.json").tokens(key);
  if (!id) {
    config.erase(key);
  } else if (stated.empty() || stated.front() != *id) {
    config[key] = *id;
  }
}

/// What all families share; the inverse of read_common_config() and read_rotary().
void write_common_config(const UniformModel& uniform, Json& config) {
  const ModelSpec& model = uniform.model;
  config["hidden_act"] = activation_name(uniform.feed_forward.activation);
  config["vocab_size"] = model.vocabulary;
  config["hidden_size"] = model.hidden;
  config["intermediate_size"] = uniform.feed_forward.width;
  config["num_hidden_layers"] = uniform.layers;
  config["num_attention_heads"] = uniform.heads.heads;
  config["num_key_value_heads"] = uniform.heads.kv_heads;
  config["head_dim"] = model.rope_dim;
  config["max_position_embeddings"] = model.max_positions;
  config["rms_norm_eps"] = model.norm_epsilon;
  write_rotary(model, config);
  config["tie_word_embeddings"] = model.tied_embeddings;
  set_token(config, "bos_token_id", model.bos);
  set_token(config, "eos_token_id", model.eos);
}

/// Whether a config that states `stated` serves for `spec`: what stands in it beside the layers' attention and the
/// storage of weights.
bool states_the_same(const ModelSpec& stated, const ModelSpec& spec) {
  const auto bare = [](const ModelSpec& one) {
    ModelSpec rest = one;
    rest.layers.clear();
    rest.ends.clear();     // of the generation config
    rest.storage.clear();  // of a converted model's section
    return rest;
  };
  return stated.layers.size() == spec.layers.size() && bare(stated) == bare(spec);
}

}  // namespace

UniformModel read_common_config(ConfigReader& config, const FamilyDefaults& defaults) {
  UniformModel uniform;
  ModelSpec& model = uniform.model;
  model.vocabulary = config.size("vocab_size", kMostVocabulary);
  model.hidden = config.size("hidden_size", kMostHidden);
  uniform.feed_forward.width = config.size("intermediate_size", kMostIntermediate);
  uniform.layers = config.size("num_hidden_layers", kMostLayers);
  for (const char* key : {"max_position_embeddings", "rms_norm_eps"}) config.refuse_null(key);
  model.max_positions = config.size_or("max_position_embeddings", defaults.max_positions, kMostPositions);
  uniform.heads = read_heads(config, model.hidden, defaults);
  model.rope_dim = uniform.heads.head_dim;
  model.norm_epsilon = config.number_or("rms_norm_eps", defaults.norm_epsilon);
  if (!(model.norm_epsilon > 0)) config.refuse("rms_norm_eps", "must be greater than 0");
  model.tied_embeddings = config.boolean_or("tie_word_embeddings", defaults.tied);
  const std::vector<std::int64_t> begin = config.tokens("bos_token_id");
  if (!begin.empty()) model.bos = begin.front();
  model.ends = config.tokens("eos_token_id");
  if (!model.ends.empty()) model.eos = model.ends.front();
  expect_activation(config, defaults.activation);
  uniform.feed_forward.activation = defaults.activation;
  config.require("partial_rotary_factor", 1.0, "only 1 is supported");
  config.require("pruned_heads", Json::object(), "not supported: heads are missing from the weights");
  return uniform;
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

std::optional<std::vector<bool>> sliding_layers(ConfigReader& config, std::int64_t layers) {
  const std::vector<std::string> types = read_layer_types(config, layers);
  if (types.empty()) return {};
  std::vector<bool> sliding;
  for (const std::string& type : types) sliding.push_back(type == "sliding_attention");
  return sliding;
}

std::vector<std::int64_t> alternating_windows(ConfigReader& config, std::int64_t layers, std::int64_t window,
                                              const std::function<bool(std::int64_t)>& otherwise) {
  config.refuse_null("sliding_window");
  window = config.size_or("sliding_window", window, kMostPositions);
  const std::optional<std::vector<bool>> sliding = sliding_layers(config, layers);
  std::vector<std::int64_t> windows;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const bool slides = sliding ? (*sliding)[static_cast<std::size_t>(layer)] : otherwise(layer);
    windows.push_back(slides ? window : 0);
  }
  return windows;
}

void write_alternating_windows(const UniformModel& model, Json& config) {
  for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"}) config.erase(key);
  if (!model.windows.empty()) config["sliding_window"] = *std::max_element(model.windows.begin(), model.windows.end());
  Json types = Json::array();
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(model.layers); ++layer)
    types.push_back(!model.windows.empty() && model.windows[layer] > 0 ? "sliding_attention" : "full_attention");
  config["layer_types"] = std::move(types);
}

void expect_layer_types(ConfigReader& config, std::int64_t layers, const std::string& only) {
  for (const std::string& type : read_layer_types(config, layers)) {
    if (type != only) config.refuse("layer_types", cat("layers of this family are all ", only));
  }
}

void write_layer_windows(const UniformModel& model, Json& config) {
  for (const char* key : {"max_window_layers", "layer_types", "sliding_window", "use_sliding_window"})
    config.erase(key);
  if (model.windows.empty()) return;
  config["use_sliding_window"] = true;
  config["sliding_window"] = *std::max_element(model.windows.begin(), model.windows.end());
  Json types = Json::array();
  for (const std::int64_t window : model.windows) types.push_back(window > 0 ? "sliding_attention" : "full_attention");
  config["layer_types"] = std::move(types);
}

std::vector<FusedMap> fused_maps(const std::string& family) {
  return Registry<Family>::instance().find(family, "model_type").make(Json::object(), "")->fused();
}

ModelSpec read_published_config(const Json& config, const std::string& name) {
  ConfigReader reader(config, name);
  return read_with(reader, nullptr);
}

Json write_published_config(const ModelSpec& spec, Json config, const std::string& name) {
  if (config.contains("hidden_size") && states_the_same(read_published_config(config, name), spec)) return config;
  const UniformModel uniform = as_uniform(spec);
  write_common_config(uniform, config);
  ConfigReader reader(config, name);
  family_of(reader)->write(uniform, config);
  expects(states_the_same(read_published_config(config, name), spec), "a written config.json states the model");
  return config;
}

std::vector<std::pair<std::string, std::string>> passed_over_keys(const Json& config, const std::string& name) {
  ConfigReader reader(config, name);
  std::vector<std::pair<std::string, std::string>> inner;
  read_with(reader, &inner);
  auto keys = reader.passed_over();
  keys.insert(keys.end(), inner.begin(), inner.end());
  return keys;
}

Json make_config(const ModelSpec& spec) {
  expects(spec.family == "llama", "a config is made for plain llama models only");
  const Json begin = {{"architectures", {"LlamaForCausalLM"}}, {"model_type", "llama"}};
  return write_published_config(spec, begin, "a made config.json");
}

}  // namespace mla
