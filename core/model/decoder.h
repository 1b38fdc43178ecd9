// The decoder-only transformer that every family is a configuration of.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/attention/attention.h"
#include "core/attention/projection.h"
#include "core/model/geometry.h"

namespace mla {

/// One transformer block: x += attention(norm(x)); x += down(silu(gate(norm(x))) * up(norm(x))).
struct DecoderLayer {
  std::unique_ptr<Attention> attention;
  at::Tensor attention_norm, mlp_norm;  ///< RMSNorm weights [hidden]
  Projection gate, up, down;            ///< [intermediate, hidden] twice, [hidden, intermediate]
};

/// The cache of a whole model: one LayerCache per layer, all of the same sequences and lengths.
class DecoderCache {
 public:
  DecoderCache() = default;
  explicit DecoderCache(std::vector<LayerCache> layers) : layers_(std::move(layers)) {}
  LayerCache& layer(std::size_t index) { return layers_.at(index); }
  const LayerCache& layer(std::size_t index) const { return layers_.at(index); }
  std::int64_t batch() const { return layers_.empty() ? 0 : layers_.front().batch(); }
  /// Tokens held by each sequence, and by the longest.
  const std::vector<std::int64_t>& lengths() const { return layers_.front().lengths(); }
  std::int64_t length() const { return layers_.empty() ? 0 : layers_.front().length(); }

  /// Bytes of all layers: counted in the buffers, predicted from shapes and lengths, and allocated with reserve.
  std::int64_t bytes() const;
  std::int64_t predicted_bytes() const;
  std::int64_t allocated_bytes() const;

  /// See LayerCache.
  void reserve(std::int64_t tokens);
  void begin_step(const std::vector<std::int64_t>& counts);
  void reset();
  void reset(std::int64_t row);
  DecoderCache select(const at::Tensor& rows) const;
  DecoderCache fork(std::int64_t row, std::int64_t count) const;

 private:
  friend class Decoder;
  std::vector<LayerCache> layers_;
  RotaryTable positions_;  ///< of positions from 0 on, as far as they were needed
};

/// A language model: token ids in, logits out. Arithmetic runs in `compute_dtype`; weights may be stored narrower.
class Decoder {
 public:
  explicit Decoder(Geometry geometry);

  /// Logits [batch, length, vocabulary] of ids [batch, length], int64, without a cache.
  at::Tensor forward(const at::Tensor& ids) const;

  /// The final, normalised hidden state [batch, length, hidden] of ids [batch, length]. `documents` int64 [batch,
  /// length] holds the position at which each token's document begins: a token sees no earlier one. Undefined: it sees
  /// all before it. Positions count through the row; since rotations are relative, each document is read as if it stood
  /// alone, but for frequencies that depend on the row's length (dynamic scaling).
  at::Tensor hidden_states(const at::Tensor& ids, const at::Tensor& documents = {}) const;

  /// Logits [..., vocabulary] of final hidden states.
  at::Tensor logits(const at::Tensor& hidden) const;

  /// Feeds ids [batch, length] after what the cache holds; returns the logits of the last position, [batch,
  /// vocabulary]. With `counts` only the first counts[b] tokens of sequence b are there, the rest is padding; the
  /// largest count is `length`. A sequence that gets none keeps its place in the batch and its cache; its logits are
  /// arbitrary.
  at::Tensor forward_cached(const at::Tensor& ids, DecoderCache& cache, DecodePath path = DecodePath::kAuto,
                            const std::vector<std::int64_t>& counts = {}) const;

  /// The same, but returns the final, normalised hidden states of all the new positions, [batch, length, hidden].
  at::Tensor hidden_states_cached(const at::Tensor& ids, DecoderCache& cache, DecodePath path = DecodePath::kAuto,
                                  const std::vector<std::int64_t>& counts = {}) const;

  /// An empty cache for `batch` >= 1 sequences, its streams stored as `format` says.
  DecoderCache make_cache(std::int64_t batch, const CacheFormat& format = {}) const;

  /// Lets every layer derive what makes decoding cheaper. Weights must not change afterwards; clones are not prepared.
  void prepare_decode();

  /// Embeddings [batch, length, hidden] and one block's step, for work that goes layer by layer.
  at::Tensor embed(const at::Tensor& ids) const;
  at::Tensor apply_layer(std::size_t layer, const at::Tensor& x, const RotaryTable& rotary, const QueryKeyProbe& probe,
                         const at::Tensor& documents = {}) const;
  RotaryTable rotary_table(std::int64_t first, std::int64_t count, std::int64_t length) const;

  /// Calls `visit` with the Hugging Face name and tensor of each parameter, in file order. A tied output matrix is
  /// not visited.
  void visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit);
  std::int64_t parameter_count() const;

  /// Cached elements per token of each layer, as its attention states them.
  std::vector<std::int64_t> cached_elements() const;

  /// A deep copy with its own weights.
  Decoder clone() const;

  Geometry geometry;
  std::vector<DecoderLayer> layers;
  at::Tensor embedding;   ///< [vocabulary, hidden]
  at::Tensor final_norm;  ///< [hidden]
  at::Tensor output;      ///< [vocabulary, hidden]; undefined when tied to the embedding
  at::ScalarType compute_dtype = at::kFloat;
  /// Keep one hidden state a layer for the gradient instead of all activations, and compute the rest again: a third
  /// more work, a small part of the memory, the same numbers.
  bool checkpoint_activations = false;

 private:
  CachedStep cached_step(DecoderCache& cache, std::int64_t count) const;

  Rotary rotary_;
};

}  // namespace mla
