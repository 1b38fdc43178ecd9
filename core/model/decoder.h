// The decoder-only transformer that every family is a configuration of.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/attention/attention.h"
#include "core/attention/linear.h"
#include "core/device/placement.h"
#include "core/model/model_spec.h"

namespace mla {

/// One transformer block: x += attention(norm(x)); x += down(act(gate(norm(x))) * up(norm(x))). Families differ in
/// where norms stand (NormPlacement): those that a block does not have are undefined.
struct DecoderLayer {
  std::unique_ptr<Attention> attention;
  at::Tensor attention_norm, mlp_norm;          ///< RMSNorm weights [hidden] of what the two parts read
  Linear gate, up, down;                        ///< [intermediate, hidden] twice, [hidden, intermediate]
  at::Tensor attention_end_norm, mlp_end_norm;  ///< RMSNorm weights [hidden] of what the two parts give
};

/// The cache of a whole model: one LayerCache per layer, all of the same sequences, and how long those are, which
/// layers that remember nothing do not tell.
class DecoderCache {
 public:
  DecoderCache() = default;
  DecoderCache(std::vector<LayerCache> layers, std::int64_t batch)
      : layers_(std::move(layers)), lengths_(static_cast<std::size_t>(batch), 0) {}
  LayerCache& layer(std::size_t index) { return layers_.at(index); }
  const LayerCache& layer(std::size_t index) const { return layers_.at(index); }
  std::int64_t batch() const { return static_cast<std::int64_t>(lengths_.size()); }
  /// Tokens held by each sequence, and by the longest.
  const std::vector<std::int64_t>& lengths() const { return lengths_; }
  std::int64_t length() const;

  /// Bytes of all layers: counted in the buffers, predicted from shapes and lengths, and allocated with reserve.
  std::int64_t bytes() const;
  std::int64_t predicted_bytes() const;
  std::int64_t allocated_bytes() const;

  /// A step begins, whose counts are those of LayerCache::begin_step(), and ends with `given` tokens in every layer.
  void begin_step(const std::vector<std::int64_t>& counts);
  void end_step(std::int64_t given);

  /// See LayerCache.
  void reserve(std::int64_t tokens);
  void reset();
  void reset(std::int64_t row);
  DecoderCache select(const at::Tensor& rows) const;
  DecoderCache fork(std::int64_t row, std::int64_t count) const;

 private:
  friend class Decoder;
  std::vector<LayerCache> layers_;
  std::vector<std::int64_t> lengths_, counts_;
  std::map<RopeUse, RotaryTable> positions_;  ///< of positions from 0 on, as far as they were needed
};

/// A language model: token ids in, logits out. Arithmetic runs in `compute_dtype`; weights may be stored narrower.
class Decoder {
 public:
  /// Of this description, its layers still empty.
  explicit Decoder(ModelSpec spec);

  const ModelSpec& spec() const { return spec_; }

  /// Where the weights stand: whatever meets them goes there first.
  at::Device device() const { return embedding.device(); }
  /// Of what is computed: that device, and `compute_dtype`.
  at::TensorOptions options() const { return at::TensorOptions(compute_dtype).device(device()); }

  /// Moves all weights, before prepare_decode(), which derives others from them.
  void move_to(const Placement& placement);

  /// Logits [batch, length, vocabulary] of ids [batch, length], int64, without a cache.
  at::Tensor forward(const at::Tensor& ids) const;

  /// The final, normalised hidden state [batch, length, hidden] of ids [batch, length]. `documents` int64 [batch,
  /// length] holds the position at which each token's document begins: a token sees no earlier one. Undefined: it sees
  /// all before it. Positions count through the row; since rotations are relative, each document is read as if it stood
  /// alone, but for frequencies that depend on the row's length (dynamic scaling).
  at::Tensor hidden_states(const at::Tensor& ids, const at::Tensor& documents = {}) const;

  /// The map from hidden states to logits: `output`, or the embedding where that is tied to it.
  const Linear& output_map() const { return output.defined() ? output : embedding; }

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

  /// Work that goes layer by layer: embeddings [batch, length, hidden], the surroundings of `length` tokens without a
  /// cache, one block's step in them, and the norm after the last. `documents` as in hidden_states().
  at::Tensor embed(const at::Tensor& ids) const;
  ForwardContext context(std::int64_t length, const at::Tensor& documents = {}) const;
  at::Tensor apply_layer(std::size_t layer, const at::Tensor& x, ForwardContext& context) const;
  /// The step's halves, for what runs one without the other: what the block's attention gives of x, before a norm behind
  /// it; and what leaves the block, given x and that.
  at::Tensor attention_half(std::size_t layer, const at::Tensor& x, ForwardContext& context) const;
  at::Tensor feed_forward_half(std::size_t layer, const at::Tensor& x, const at::Tensor& attention,
                               const ForwardContext& context) const;
  at::Tensor final_states(const at::Tensor& x) const;

  /// hidden_states(), watched by `observer`. Where gradients are recorded, all that is shown takes part in them.
  at::Tensor observe(const at::Tensor& ids, const Observer& observer) const;

  /// Puts other attention into a block, or takes blocks out; the description follows, storage of weights included.
  void replace_attention(std::size_t layer, std::unique_ptr<Attention> attention);
  /// Gives each linear map to `replace`, by its whole name, to be put into another storage.
  void replace_maps(const std::function<void(const std::string& name, Linear& map)>& replace);
  void remove_layers(const std::vector<std::size_t>& layers);

  /// Calls `visit` for each linear map by its Hugging Face name without ".weight" ("model.layers.0.mlp.up_proj"), the
  /// embedding among them, and for each other tensor, in file order. A tied output matrix is not visited.
  void visit_weights(const WeightVisitor& visit);
  /// Calls `visit` with the Hugging Face name and tensor of each parameter that can be trained, in file order.
  void visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit);
  /// Likewise for each tensor that is held, as files hold them: codes of packed weights among them.
  void visit_stored(const std::function<void(const std::string&, at::Tensor&)>& visit);
  std::int64_t parameter_count() const;

  /// Bytes of all weights: counted in the buffers, and predicted from the description, where dense tensors have the
  /// types that they are held in.
  std::int64_t weight_bytes() const;
  std::int64_t predicted_weight_bytes() const;

  /// A deep copy with its own weights.
  Decoder clone() const;

  std::vector<DecoderLayer> layers;
  Linear embedding;       ///< [vocabulary, hidden]
  at::Tensor final_norm;  ///< [hidden]
  Linear output;          ///< [vocabulary, hidden]; undefined when tied to the embedding
  at::ScalarType compute_dtype = at::kFloat;
  Products products = Products::kFloat32;  ///< in which large products multiply where compute_dtype is float32
  /// Keep one hidden state a layer for the gradient instead of all activations, and compute the rest again: a third
  /// more work, a small part of the memory, the same numbers.
  bool checkpoint_activations = false;

 private:
  void set_spec(ModelSpec spec);
  void place(DecoderCache& cache, std::int64_t count, ForwardContext& context) const;
  void enter(std::size_t layer, ForwardContext& context) const;
  at::Tensor attention_step(const DecoderLayer& layer, const at::Tensor& x, const at::Tensor& attention) const;
  at::Tensor feed_forward_step(std::size_t index, const at::Tensor& attended, const ForwardContext& context) const;
  at::Tensor apply_layer_cached(std::size_t index, const at::Tensor& x, ForwardContext& context,
                                LayerCache& cache) const;
  at::Tensor through_group(std::size_t begin, std::size_t end, at::Tensor x, ForwardContext& context) const;

  ModelSpec spec_;
  std::map<RopeUse, Rotary> rotaries_;            ///< of all ways in which layers rotate; the model's own among them
  std::vector<RopeUse> rope_uses_;                ///< by layer
  std::vector<std::vector<std::string>> wanted_;  ///< slots that each layer fills
  std::vector<std::size_t> groups_;               ///< group_boundaries()
};

}  // namespace mla
