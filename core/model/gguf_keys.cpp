#include "core/model/gguf_keys.h"

#include <algorithm>

#include "core/attention/limits.h"
#include "core/base/error.h"

namespace mla {
namespace {

void add_ends(ConfigReader &keys, Json &config) {
  constexpr std::int64_t kNone = 0xFFFFFFFF; // -1 in other programs
  std::vector<std::int64_t> begin = keys.tokens("tokenizer.ggml.bos_token_id"),
                            ends;
  for (const char *key : {"eos", "eot", "eom"}) {
    for (const std::int64_t id :
         keys.tokens(cat("tokenizer.ggml.", key, "_token_id"))) {
      if (id != kNone && std::find(ends.begin(), ends.end(), id) == ends.end())
        ends.push_back(id);
    }
  }
  if (!begin.empty() && begin.front() != kNone)
    config["bos_token_id"] = begin.front();
  if (!ends.empty())
    config["eos_token_id"] = ends.size() == 1 ? Json(ends.front()) : Json(ends);
}

} // namespace

bool has_gguf_tensor(const gguf::File &file, std::string_view name) {
  return std::any_of(file.tensors().begin(), file.tensors().end(),
                     [&](const auto &one) { return one.name == name; });
}

void add_gguf_sizes(ConfigReader &keys, const std::string &prefix,
                    const gguf::File &file, Json &config) {
  const auto embedding = std::find_if(
      file.tensors().begin(), file.tensors().end(),
      [](const auto &one) { return one.name == "token_embd.weight"; });
  if (embedding == file.tensors().end()) {
    throw DataError(cat(file.path().string(),
                        ": tensor token_embd.weight is missing",
                        file.tensors().empty()
                            ? ": the file holds no weights, a tokenizer at most"
                            : ""));
  }
  const std::int64_t vocabulary = embedding->shape.front();
  keys.require(prefix + "vocab_size", vocabulary,
               cat("token_embd.weight has ", vocabulary, " rows"));
  config["vocab_size"] = vocabulary;
  config["hidden_size"] = keys.size(prefix + "embedding_length", kMostHidden);
  config["intermediate_size"] =
      keys.size(prefix + "feed_forward_length", kMostIntermediate);
  config["num_hidden_layers"] = keys.size(prefix + "block_count", kMostLayers);
  config["num_attention_heads"] =
      keys.size(prefix + "attention.head_count", kMostHeads);
  config["max_position_embeddings"] =
      keys.size(prefix + "context_length", kMostPositions);
}

void add_gguf_norm_and_ends(ConfigReader &keys, const std::string &prefix,
                            const gguf::File &file, Json &config) {
  const std::string epsilon = prefix + "attention.layer_norm_rms_epsilon";
  if (!keys.has(epsilon))
    throw DataError(cat(keys.name(), ": ", epsilon, " is missing"));
  const double norm_epsilon = keys.number_or(epsilon, 0);
  config["rms_norm_eps"] = norm_epsilon;
  if (!(norm_epsilon > 0))
    keys.refuse(epsilon, "must be greater than 0");
  config["tie_word_embeddings"] = !has_gguf_tensor(file, "output.weight");
  add_ends(keys, config);
}

void refuse_other_gguf_functions(ConfigReader &keys,
                                 const std::string &prefix) {
  keys.require("general.type", "model",
               "only models are read, not adapters or parts of one");
  keys.require("general.quantization_version", 2,
               "only version 2 of ggml's quantization is read");
  keys.require(prefix + "attention.causal", true,
               "only causal attention is supported");
  keys.require(prefix + "tensor_data_layout", "Meta AI original pth",
               "another order of rows is not known");
  keys.require(prefix + "use_parallel_residual", false, "not supported");
}

} // namespace mla
