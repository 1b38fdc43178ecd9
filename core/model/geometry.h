// The shape of a decoder-only transformer, as its config states it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/attention/attention.h"
#include "core/attention/rotary.h"

namespace mla {

/// The largest numbers that a model may state. Far beyond every published model, and small enough that no product of
/// them (parameters, bytes of a cache) leaves 64 bits.
inline constexpr std::int64_t kMostVocabulary = 2147483647, kMostPositions = 2147483647, kMostLayers = 10000,
                              kMostHidden = 1 << 18, kMostIntermediate = 1 << 22, kMostHeads = 1 << 16,
                              kMostHeadDim = 1 << 14, kMostHeadRows = 1 << 20;

/// Everything that decides the function of a model besides its weights.
struct Geometry {
  std::string family;  ///< registered family name, for example "llama"
  std::int64_t vocabulary = 0, hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::int64_t max_positions = 2048;  ///< context length in tokens
  double norm_epsilon = 1e-6;
  bool tied_embeddings = false;  ///< the output matrix is the embedding matrix
  bool query_bias = false, key_bias = false, value_bias = false, output_bias = false, mlp_bias = false;
  bool qk_norm = false;
  double rope_theta = 10000;
  RotaryScaling rope_scaling;
  std::vector<std::int64_t> windows;  ///< sliding window per layer, 0: none; empty: none anywhere
  std::optional<std::int64_t> bos, eos;
  /// Ids that end a text, as transformers' generate() takes them: eos_token_id of generation_config.json, or else of
  /// config.json. Empty: neither names one, and the tokenizer's counts.
  std::vector<std::int64_t> ends;

  Rotary rotary() const { return Rotary(rope_theta, head_dim, max_positions, rope_scaling); }
  AttentionGeometry attention(std::int64_t layer) const;
  /// Keys and values of all KV heads: what the unconverted model caches per token and layer.
  std::int64_t cached_elements() const { return 2 * kv_heads * head_dim; }
};

/// Parameters of the unconverted model by group; a tied output matrix is counted once, in the embedding.
struct ParameterCount {
  std::int64_t embedding = 0, attention = 0, mlp = 0, norms = 0, output = 0;
  std::int64_t total() const { return embedding + attention + mlp + norms + output; }
};
ParameterCount count_parameters(const Geometry& geometry);

/// Attention parameters of one unconverted layer, QK-norm weights not counted (they stand under norms).
std::int64_t attention_parameters(const Geometry& geometry);

}  // namespace mla
