#include "core/model/gguf_config.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/model/config_reader.h"
#include "core/model/gguf_deepseek2.h"
#include "core/model/gguf_keys.h"
#include "core/model/gguf_rope.h"
#include "core/model/model_spec.h"

namespace mla {
namespace {

/// An architecture of files, and the family whose config.json says the same.
struct GgufArchitecture {
  const char *name, *family, *model_class;
  bool interleaved;
};
constexpr std::array<GgufArchitecture, 3> kGgufArchitectures = {
    {{"llama", "llama", "LlamaForCausalLM", true},
     {"qwen2", "qwen2", "Qwen2ForCausalLM", false},
     {"qwen3", "qwen3", "Qwen3ForCausalLM", false}}};

struct PrefixReason {
  const char *prefix, *reason;
};
/// Keys that decide nothing of the function from tokens to logits.
constexpr std::array<PrefixReason, 5> kGgufHarmless = {
    {{"tokenizer.", "describes the tokenizer, which is read from it"},
     {"general.", "tells of the model and its file: names, authors, licence, "
                  "sources, how it was quantized"},
     {"quantize.", "tells how the weights were quantized"},
     {"imatrix.", "tells how the weights were quantized"},
     {"split.", "tells that the file is all of a model that was in several"}}};

std::string harmless_gguf_reason(const std::string &key) {
  for (const auto &[prefix, reason] : kGgufHarmless) {
    if (key.starts_with(prefix))
      return reason;
  }
  if (key.ends_with(".rope.scaling.finetuned"))
    return harmless_rope_reason("finetuned");
  return "";
}

const GgufArchitecture &gguf_architecture(ConfigReader &keys) {
  constexpr const char *kKey = "general.architecture";
  if (!keys.has(kKey))
    throw DataError(cat(keys.name(), ": ", kKey, " is missing"));
  const std::string name = keys.string_or(kKey, "");
  std::vector<std::string> known = {kDeepSeek2};
  for (const GgufArchitecture &architecture : kGgufArchitectures) {
    if (name == architecture.name)
      return architecture;
    known.emplace_back(architecture.name);
  }
  throw DataError(cat(keys.name(), ": ", kKey, ": ",
                      unknown_name(brief_text(name), known)));
}

/// Whether the first block has every one of these biases, or none.
bool has_biases(const gguf::File &file, const std::vector<std::string> &names) {
  const auto count =
      std::count_if(names.begin(), names.end(), [&](const std::string &name) {
        return has_gguf_tensor(file, "blk.0." + name + ".bias");
      });
  if (count == 0 || count == std::ssize(names))
    return count != 0;
  throw DataError(cat(file.path().string(), ": blk.0 has biases for some of ",
                      join(names),
                      " and not for others, which no model of this kind has"));
}

/// Widths of heads.
void add_heads(ConfigReader &keys, const std::string &prefix, Json &config) {
  const std::int64_t hidden = config["hidden_size"],
                     heads = config["num_attention_heads"];
  config["num_key_value_heads"] =
      keys.size_or(prefix + "attention.head_count_kv", heads, kMostHeads);
  const std::string key_length = prefix + "attention.key_length";
  if (!keys.has(key_length) && hidden % heads != 0) {
    keys.refuse(prefix + "embedding_length",
                cat("is not a multiple of ", heads, " heads, and ", key_length,
                    " is absent"));
  }
  const std::int64_t head_dim =
      keys.size_or(key_length, hidden / heads, kMostHeadDim);
  config["head_dim"] = head_dim;
  keys.require(prefix + "attention.value_length", head_dim,
               cat("values must be as wide as keys, ", head_dim));
  keys.require(prefix + "rope.dimension_count", head_dim,
               cat("only whole heads, of ", head_dim, ", are rotated"));
}

void add_window(ConfigReader &keys, const std::string &prefix, Json &config) {
  const std::string key = prefix + "attention.sliding_window";
  const std::int64_t window = keys.integer_or(key, 0);
  if (window == 0)
    return;
  if (window < 0 || window > kMostPositions)
    keys.refuse(key, cat("must be from 0 to ", kMostPositions));
  if (config["model_type"] != "llama")
    keys.refuse(
        key, "windows are supported in files of the architecture llama alone");
  config["model_type"] = "mistral";
  config["architectures"] = {"MistralForCausalLM"};
  config["sliding_window"] = window;
}

void add_biases(const gguf::File &file, Json &config) {
  const std::string family = config["model_type"];
  const bool mlp = has_biases(file, {"ffn_gate", "ffn_up", "ffn_down"});
  if (family == "qwen2" || family == "mistral") {
    if (mlp)
      throw DataError(cat(file.path().string(),
                          ": blk.0 has biases in its feed-forward part, which ",
                          family, " models have not"));
    return; // the family says which there are, and each must be there
  }
  config["attention_bias"] =
      has_biases(file, {"attn_q", "attn_k", "attn_v", "attn_output"});
  if (family == "llama")
    config["mlp_bias"] = mlp;
}

Json read_keys(ConfigReader &keys, const gguf::File &file) {
  if (keys.has("general.architecture") &&
      keys.string_or("general.architecture", "") == kDeepSeek2)
    return read_deepseek2_keys(keys, file);
  const GgufArchitecture &architecture = gguf_architecture(keys);
  const std::string prefix = cat(architecture.name, ".");
  Json config = {{"architectures", {architecture.model_class}},
                 {"model_type", architecture.family},
                 {"hidden_act", "silu"}};
  refuse_other_gguf_functions(keys, prefix);
  for (const char *key : {"expert_count", "expert_used_count"})
    keys.require(prefix + key, 0, "mixtures of experts are not supported");
  add_gguf_sizes(keys, prefix, file, config);
  add_heads(keys, prefix, config);
  add_gguf_rope(keys, prefix, file, config);
  add_window(keys, prefix, config);
  add_biases(file, config);
  add_gguf_norm_and_ends(keys, prefix, file, config);
  keys.finish();
  return config;
}

} // namespace

Json gguf_config(const gguf::File &file) {
  const Json metadata = file.metadata();
  ConfigReader keys(metadata, file.path().string(), harmless_gguf_reason);
  return read_keys(keys, file);
}

std::vector<std::pair<std::string, std::string>>
passed_over_gguf_keys(const gguf::File &file) {
  const Json metadata = file.metadata();
  ConfigReader keys(metadata, file.path().string(), harmless_gguf_reason);
  read_keys(keys, file);
  return keys.passed_over();
}

bool has_interleaved_rows(const std::string &family) {
  return family == "mistral" ||
         std::any_of(kGgufArchitectures.begin(), kGgufArchitectures.end(),
                     [&](const auto &one) {
                       return family == one.family && one.interleaved;
                     });
}

} // namespace mla
