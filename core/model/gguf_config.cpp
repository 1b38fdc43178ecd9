#include "core/model/gguf_config.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/model/config_reader.h"
#include "core/model/gguf_rope.h"
#include "core/model/model_spec.h"

namespace mla {
namespace {

/// An architecture of files, and the family whose config.json says the same.
struct GgufArchitecture {
  const char *name, *family, *model_class;
  bool interleaved;
};
constexpr std::array<GgufArchitecture, 3> kGgufArchitectures = {{{"llama", "llama", "LlamaForCausalLM", true},
                                                                 {"qwen2", "qwen2", "Qwen2ForCausalLM", false},
                                                                 {"qwen3", "qwen3", "Qwen3ForCausalLM", false}}};

struct PrefixReason {
  const char *prefix, *reason;
};
/// Keys that decide nothing of the function from tokens to logits.
constexpr std::array<PrefixReason, 5> kGgufHarmless = {
    {{"tokenizer.", "describes the tokenizer, which is read from it"},
     {"general.", "tells of the model and its file: names, authors, licence, sources, how it was quantized"},
     {"quantize.", "tells how the weights were quantized"},
     {"imatrix.", "tells how the weights were quantized"},
     {"split.", "tells that the file is all of a model that was in several"}}};

std::string harmless_gguf_reason(const std::string& key) {
  for (const auto& [prefix, reason] : kGgufHarmless) {
    if (key.starts_with(prefix)) return reason;
  }
  if (key.ends_with(".rope.scaling.finetuned")) return harmless_rope_reason("finetuned");
  return "";
}

const GgufArchitecture& gguf_architecture(ConfigReader& keys) {
  constexpr const char* kKey = "general.architecture";
  if (!keys.has(kKey)) throw DataError(cat(keys.name(), ": ", kKey, " is missing"));
  const std::string name = keys.string_or(kKey, "");
  std::vector<std::string> known;
  for (const GgufArchitecture& architecture : kGgufArchitectures) {
    if (name == architecture.name) return architecture;
    known.emplace_back(architecture.name);
  }
  throw DataError(cat(keys.name(), ": ", kKey, ": ", unknown_name(brief_text(name), known)));
}

bool has_tensor(const gguf::File& file, std::string_view name) {
  return std::any_of(file.tensors().begin(), file.tensors().end(), [&](const auto& one) { return one.name == name; });
}

/// Whether the first block has every one of these biases, or none.
bool has_biases(const gguf::File& file, const std::vector<std::string>& names) {
  const auto count = std::count_if(
      names.begin(), names.end(), [&](const std::string& name) { return has_tensor(file, "blk.0." + name + ".bias"); });
  if (count == 0 || count == std::ssize(names)) return count != 0;
  throw DataError(cat(file.path().string(), ": blk.0 has biases for some of ", join(names),
                      " and not for others, which no model of this kind has"));
}

/// Sizes of layers and heads. Rows of the embedding are the vocabulary, which older files do not state.
void add_sizes(ConfigReader& keys, const std::string& prefix, const gguf::File& file, Json& config) {
  const auto embedding = std::find_if(file.tensors().begin(), file.tensors().end(),
                                      [](const auto& one) { return one.name == "token_embd.weight"; });
  if (embedding == file.tensors().end()) {
    throw DataError(cat(file.path().string(), ": tensor token_embd.weight is missing",
                        file.tensors().empty() ? ": the file holds no weights, a tokenizer at most" : ""));
  }
  const std::int64_t vocabulary = embedding->shape.front();
  keys.require(prefix + "vocab_size", vocabulary, cat("token_embd.weight has ", vocabulary, " rows"));
  const std::int64_t hidden = keys.size(prefix + "embedding_length", kMostHidden);
  const std::int64_t heads = keys.size(prefix + "attention.head_count", kMostHeads);
  config["vocab_size"] = vocabulary;
  config["hidden_size"] = hidden;
  config["intermediate_size"] = keys.size(prefix + "feed_forward_length", kMostIntermediate);
  config["num_hidden_layers"] = keys.size(prefix + "block_count", kMostLayers);
  config["num_attention_heads"] = heads;
  config["num_key_value_heads"] = keys.size_or(prefix + "attention.head_count_kv", heads, kMostHeads);
  const std::string key_length = prefix + "attention.key_length";
  if (!keys.has(key_length) && hidden % heads != 0) {
    keys.refuse(prefix + "embedding_length",
                cat("is not a multiple of ", heads, " heads, and ", key_length, " is absent"));
  }
  const std::int64_t head_dim = keys.size_or(key_length, hidden / heads, kMostHeadDim);
  config["head_dim"] = head_dim;
  keys.require(prefix + "attention.value_length", head_dim, cat("values must be as wide as keys, ", head_dim));
  keys.require(prefix + "rope.dimension_count", head_dim, cat("only whole heads, of ", head_dim, ", are rotated"));
  config["max_position_embeddings"] = keys.size(prefix + "context_length", kMostPositions);
}

/// What would make it another function than that of a plain dense decoder.
void refuse_other_functions(ConfigReader& keys, const std::string& prefix) {
  keys.require("general.type", "model", "only models are read, not adapters or parts of one");
  keys.require("general.quantization_version", 2, "only version 2 of ggml's quantization is read");
  for (const char* key : {"expert_count", "expert_used_count"})
    keys.require(prefix + key, 0, "mixtures of experts are not supported");
  keys.require(prefix + "attention.causal", true, "only causal attention is supported");
  keys.require(prefix + "tensor_data_layout", "Meta AI original pth", "another order of rows is not known");
  keys.require(prefix + "use_parallel_residual", false, "not supported");
}

void add_window(ConfigReader& keys, const std::string& prefix, Json& config) {
  const std::string key = prefix + "attention.sliding_window";
  const std::int64_t window = keys.integer_or(key, 0);
  if (window == 0) return;
  if (window < 0 || window > kMostPositions) keys.refuse(key, cat("must be from 0 to ", kMostPositions));
  if (config["model_type"] != "llama")
    keys.refuse(key, "windows are supported in files of the architecture llama alone");
  config["model_type"] = "mistral";
  config["architectures"] = {"MistralForCausalLM"};
  config["sliding_window"] = window;
}

/// Ids that begin and end a text; a turn of a chat ends one, too, as in llama.cpp.
void add_tokens(ConfigReader& keys, Json& config) {
  constexpr std::int64_t kNone = 0xFFFFFFFF;  // -1 in other programs
  std::vector<std::int64_t> begin = keys.tokens("tokenizer.ggml.bos_token_id"), ends;
  for (const char* key : {"eos", "eot", "eom"}) {
    for (const std::int64_t id : keys.tokens(cat("tokenizer.ggml.", key, "_token_id"))) {
      if (id != kNone && std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
    }
  }
  if (!begin.empty() && begin.front() != kNone) config["bos_token_id"] = begin.front();
  if (!ends.empty()) config["eos_token_id"] = ends.size() == 1 ? Json(ends.front()) : Json(ends);
}

void add_biases(const gguf::File& file, Json& config) {
  const std::string family = config["model_type"];
  const bool mlp = has_biases(file, {"ffn_gate", "ffn_up", "ffn_down"});
  if (family == "qwen2" || family == "mistral") {
    if (mlp)
      throw DataError(
          cat(file.path().string(), ": blk.0 has biases in its feed-forward part, which ", family, " models have not"));
    return;  // the family says which there are, and each must be there
  }
  config["attention_bias"] = has_biases(file, {"attn_q", "attn_k", "attn_v", "attn_output"});
  if (family == "llama") config["mlp_bias"] = mlp;
}

Json read_keys(ConfigReader& keys, const gguf::File& file) {
  const GgufArchitecture& architecture = gguf_architecture(keys);
  const std::string prefix = cat(architecture.name, ".");
  Json config = {
      {"architectures", {architecture.model_class}}, {"model_type", architecture.family}, {"hidden_act", "silu"}};
  refuse_other_functions(keys, prefix);
  add_sizes(keys, prefix, file, config);
  const std::string epsilon = prefix + "attention.layer_norm_rms_epsilon";
  if (!keys.has(epsilon)) throw DataError(cat(keys.name(), ": ", epsilon, " is missing"));
  const double norm_epsilon = keys.number_or(epsilon, 0);
  config["rms_norm_eps"] = norm_epsilon;
  if (!(norm_epsilon > 0)) keys.refuse(epsilon, "must be greater than 0");
  add_gguf_rope(keys, prefix, file, config);
  add_window(keys, prefix, config);
  add_biases(file, config);
  config["tie_word_embeddings"] = !has_tensor(file, "output.weight");
  add_tokens(keys, config);
  keys.finish();
  return config;
}

}  // namespace

Json gguf_config(const gguf::File& file) {
  const Json metadata = file.metadata();
  ConfigReader keys(metadata, file.path().string(), harmless_gguf_reason);
  return read_keys(keys, file);
}

std::vector<std::pair<std::string, std::string>> passed_over_gguf_keys(const gguf::File& file) {
  const Json metadata = file.metadata();
  ConfigReader keys(metadata, file.path().string(), harmless_gguf_reason);
  read_keys(keys, file);
  return keys.passed_over();
}

bool has_interleaved_rows(const std::string& family) {
  return family == "mistral" || std::any_of(kGgufArchitectures.begin(), kGgufArchitectures.end(),
                                            [&](const auto& one) { return family == one.family && one.interleaved; });
}

}  // namespace mla
