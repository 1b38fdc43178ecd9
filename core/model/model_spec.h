// The one description of a model: every shape that it has, layer by layer. All else is read from it: config.json,
// weights' shapes, counts of parameters, of cached bytes and of operations.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/attention/limits.h"
#include "core/attention/spec.h"

namespace mla {

/// What the gate of a feed-forward part goes through.
enum class Activation {
  kSilu,
  kGeluTanh,  ///< GELU by its approximation with tanh
};

/// down(activation(gate(x)) * up(x)), with gate and up [width, hidden] and down [hidden, width].
struct FeedForwardSpec {
  std::int64_t width = 0;
  bool bias = false;
  Activation activation = Activation::kSilu;
  bool operator==(const FeedForwardSpec&) const = default;
};

/// One transformer block.
struct LayerSpec {
  std::shared_ptr<const AttentionSpec> attention;  ///< never null in a complete description
  FeedForwardSpec feed_forward;
  std::int64_t source_layer = 0;  ///< the layer of the published model that it comes from
  StorageMap storage = {};        ///< of linear maps that are not dense: "self_attn.q_proj", "mlp.up_proj"

  bool operator==(const LayerSpec& other) const;
};

/// Where a block normalises: what its attention and feed-forward part read, what they give, or both.
enum class NormPlacement { kBefore, kAfter, kBoth };

/// A block's norms by their names in files, null where there is none.
struct BlockNorms {
  const char *before_attention = nullptr, *after_attention = nullptr, *before_mlp = nullptr, *after_mlp = nullptr;
};
BlockNorms block_norms(NormPlacement placement);

/// Everything that decides the function of a model besides its weights.
struct ModelSpec : ModelFrame {
  std::string family;  ///< registered family name, for example "llama"
  std::int64_t vocabulary = 0;
  bool tied_embeddings = false;  ///< the output matrix is the embedding matrix
  NormPlacement norms = NormPlacement::kBefore;
  double embedding_scale = 1;  ///< embeddings are multiplied by it, rounded to the dtype of the arithmetic
  double logit_cap = 0;        ///< a logit x becomes cap * tanh(x / cap); 0: it stays
  std::optional<std::int64_t> bos, eos;
  /// Ids that end a text, as transformers' generate() takes them: eos_token_id of generation_config.json, or else of
  /// config.json. Empty: neither names one, and the tokenizer's counts.
  std::vector<std::int64_t> ends;
  std::vector<LayerSpec> layers;
  StorageMap storage;  ///< likewise of "model.embed_tokens" and "lm_head"

  std::int64_t layer_count() const { return static_cast<std::int64_t>(layers.size()); }
  const AttentionSpec& attention(std::int64_t layer) const {
    return *layers.at(static_cast<std::size_t>(layer)).attention;
  }
  bool operator==(const ModelSpec&) const = default;
};

/// What a family's config means where it does not state the rotary embedding.
struct RopeDefaults {
  double theta = 10000;
  double local_theta = 0;               ///< of layers with a window; 0: the family has one base for all layers
  std::int64_t original_positions = 0;  ///< context length before extension; 0: max_position_embeddings
  bool yarn_is_longrope = false;        ///< old names of longrope: su, yarn
};

/// A model whose layers are alike but for their windows and rotation, as published configs state it and a new model is
/// asked for.
struct UniformModel {
  ModelSpec model;  ///< without layers
  HeadFields heads;
  FeedForwardSpec feed_forward;
  std::int64_t layers = 0;
  std::vector<std::int64_t> windows;  ///< by layer, 0: none; empty: none anywhere
  std::vector<RopeUse> ropes = {};    ///< by layer; empty: the model's frequencies everywhere
  RopeDefaults rope = {};

  /// Grouped-query attention in every layer.
  ModelSpec spec() const;
};

/// `spec` as if its layers were alike: heads and feed-forward width of the first, every layer's window and rotation.
UniformModel as_uniform(const ModelSpec& spec);

/// The part of the model that a tensor belongs to.
enum class ParameterGroup { kEmbedding, kAttention, kFeedForward, kNorms, kOutput };
struct ModelParameter : Parameter {
  ParameterGroup group = ParameterGroup::kEmbedding;
  std::shared_ptr<const WeightStorage> storage = nullptr;  ///< of a linear map's matrix that is not dense

  /// Of a linear map: its name, that of its weight without ".weight".
  std::string map_name() const { return name.substr(0, name.rfind('.')); }
  bool is_matrix() const { return role == ParameterRole::kWeight || role == ParameterRole::kResidual; }
  MatrixShape matrix() const { return {shape.at(0), shape.at(1)}; }
  /// Parameters that it stands for; fewer than elements where it is held as factors.
  std::int64_t count() const { return storage ? parameters_of(*storage, matrix()) : Parameter::count(); }
};

/// Every tensor of the model by its Hugging Face name, in file order; NAME.weight for a linear map, however it is held.
/// A tied output matrix is not one.
std::vector<ModelParameter> model_parameters(const ModelSpec& spec);
/// The embedding, and an output matrix that is not tied to it.
ModelParameter embedding_parameter(const ModelSpec& spec);
ModelParameter output_parameter(const ModelSpec& spec);
/// Those of a block, named relative to the model: "model.layers.3.mlp.up_proj.weight".
std::vector<ModelParameter> layer_parameters(const ModelSpec& spec, std::int64_t layer);

/// Parameters by group; a tied output matrix is counted once, in the embedding.
struct ParameterCount {
  std::int64_t embedding = 0, attention = 0, mlp = 0, norms = 0, output = 0;
  std::int64_t total() const { return embedding + attention + mlp + norms + output; }
};
ParameterCount count_parameters(const ModelSpec& spec);

/// The linear maps that are not dense, by their whole names.
StorageMap model_storage(const ModelSpec& spec);
/// Puts the storage of a linear map into the description; null: dense. `name` is whole.
void set_storage(ModelSpec& spec, const std::string& name, std::shared_ptr<const WeightStorage> storage);
/// Throws ConfigError for storage of maps that the model does not have, or whose matrices do not fit it.
void check_storage(const ModelSpec& spec, const std::string& where);
/// Throws ConfigError, naming `path`, where a linear map of the layer whose name begins with `prefix` is not dense: for
/// passes that compute with matrices. The second one lets storage be that conversions may start from.
void expect_dense(const ModelSpec& spec, std::int64_t layer, const std::string& prefix, const std::string& path);
void expect_convertible(const ModelSpec& spec, std::int64_t layer, const std::string& prefix, const std::string& path);

/// Elements that a layer, or all of them, cache per token.
std::int64_t cached_elements(const AttentionSpec& attention);
std::int64_t cached_elements(const ModelSpec& spec);

/// Throws ConfigError, "WHERE…: what is wrong", for a description that no model can have: a layer that reads what no
/// layer before it provides, or heads that do not fit.
void check_spec(const ModelSpec& spec, const std::string& where);

/// For each layer the slots (forward_context.h) that it is to fill, since a later one reads them.
std::vector<std::vector<std::string>> wanted_slots(const ModelSpec& spec);

/// The first layers of groups that hand nothing on to each other, then the number of layers: {0, 1, 2, …} where no
/// layer reads from another.
std::vector<std::size_t> group_boundaries(const ModelSpec& spec);

}  // namespace mla
