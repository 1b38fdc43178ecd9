// Low-rank factors of the position-free keys and the values of one attention layer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// The part [begin, begin + width) of the latent that an up-projection reads.
struct LatentSlice {
  std::int64_t begin = 0;
  std::int64_t width = 0;
  bool operator==(const LatentSlice&) const = default;
  /// As [begin, width]. Throws ConfigError naming `path` for anything else.
  static LatentSlice read(const Json& json, const std::string& path);
  static Json schema() {
    return {{"type", "array"}, {"items", {{"type", "integer"}}}, {"minItems", 2}, {"maxItems", 2}};
  }
  Json write() const { return {begin, width}; }
};

/// How well a factorization approximates what it replaces: Frobenius norm of the difference over that of the original.
struct FactorizationError {
  double joint = 0;  ///< of [K_nope; V] as one matrix
  double key = 0;    ///< of K_nope alone (0 when there is none)
  double value = 0;  ///< of V alone
};

/// The latent of a factorized layer, known before any weight is read.
struct LatentShape {
  std::int64_t width = 0;  ///< latent elements per token
  LatentSlice key, value;  ///< the parts that keys and values are rebuilt from
  bool key_up = true;      ///< false: the key slice itself is K_nope
  bool value_up = true;    ///< false: the value slice itself is V
};

/// Latent widths that a layer may have.
struct WidthBounds {
  std::int64_t least = 1, most = 1;
};

/// latent = down x; K_nope = up_key latent[key]; V = up_value latent[value]. Matrices in [out, in] layout.
struct Factorization {
  at::Tensor down;      ///< [latent width, hidden]
  at::Tensor up_key;    ///< [kv_heads * nope width, key.width]; undefined: the slice itself is K_nope
  at::Tensor up_value;  ///< [kv_heads * head_dim, value.width]; undefined: the slice itself is V
  LatentSlice key, value;
  std::vector<double> singular_values;        ///< those kept: joint: of [K_nope; V]; split: of K_nope
  std::vector<double> value_singular_values;  ///< those kept of V, where it has a decomposition of its own
  FactorizationError error;
};

/// Geometry of the matrices to factorize, known before any weight is read.
struct FactorGeometry {
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::vector<std::int64_t> content;  ///< position-free dims of a key head, one entry per layer

  std::int64_t nope_rows(std::int64_t layer) const { return kv_heads * content.at(static_cast<std::size_t>(layer)); }
  std::int64_t value_rows() const { return kv_heads * head_dim; }
};

/// What a factorization is to approximate: the position-free keys and the values of one layer, and what counts as
/// close.
struct LayerProblem {
  at::Tensor key;           ///< [nope rows, hidden]
  at::Tensor value;         ///< [value rows, hidden], both float32 or float64 (the arithmetic's precision)
  at::Tensor input_moment;  ///< E[x x^T] of their inputs, float64 [hidden, hidden]; undefined: not asked for
  /// How far errors of one head's key reach into logits: the sum over its query heads of E[q q^T], float64 [kv_heads,
  /// content width, content width]; and errors of its value into the layer's output: the sum of W_o^T W_o, float64
  /// [kv_heads, head_dim, head_dim]. Undefined: not asked for.
  at::Tensor query_metric{}, output_metric{};
};

/// One layer's decomposition, from which a factorization of any width up to the largest asked for can be cut.
class Decomposition {
 public:
  virtual ~Decomposition() = default;
  /// `width`: latent elements per token, up to the largest asked for. The latent of split_svd is divided between keys
  /// and values. The factors may be views of the decomposition's storage.
  virtual Factorization truncate(std::int64_t width) const = 0;

  /// What a latent of `width` loses by the decomposition's own measure (of weights, or of outputs), relative to the
  /// whole: sqrt of the squared error over the squared norm.
  virtual double error(std::int64_t width) const = 0;
};

/// A low-rank strategy (MHA2MLA section 3.2). Widths are stated as d_kv, latent elements per KV head: joint_svd and
/// split_svd both cache kv_heads * d_kv elements per token and layer, so that they compare at equal cache. Strategies
/// that leave a part as it is (none, value_svd) cache more; latent_width() tells.
class Factorizer {
 public:
  static constexpr const char* kKind = "low_rank";
  virtual ~Factorizer() = default;

  /// The latent of `layer`.
  virtual LatentShape shape(std::int64_t layer, const FactorGeometry& geometry) const = 0;

  /// Latent elements per token of `layer`.
  std::int64_t latent_width(std::int64_t layer, const FactorGeometry& geometry) const {
    return shape(layer, geometry).width;
  }

  /// The widths that a layer may have, whatever the options state.
  virtual WidthBounds bounds(std::int64_t layer, const FactorGeometry& geometry) const = 0;

  /// What a decomposition depends on beside the matrices: strategies of equal keys, whatever their widths, cut from the
  /// same one.
  virtual Json sharing_key() const = 0;

  /// Whether the keys go through the latent as a linear map of the hidden state; QK-norm forbids that.
  virtual bool compresses_keys() const = 0;

  /// Whether decompose() is work that cells of several widths should share.
  virtual bool decomposes() const { return true; }

  /// Throws ConfigError (with `path` in front) when a width exceeds the rank of what it approximates.
  virtual void check(const FactorGeometry& geometry, const std::string& path) const = 0;

  /// Parameters of the factors of `layer`, biases not counted.
  std::int64_t parameters(std::int64_t layer, const FactorGeometry& geometry) const;

  /// Whether decompose() needs the second moment of the layer's inputs, measured on data, and whether the metrics of
  /// queries and outputs as well.
  virtual bool needs_input_moment() const { return false; }
  virtual bool needs_attention_metrics() const { return false; }

  /// Decomposes the layer's keys and values once for all widths up to `largest_width`.
  virtual std::unique_ptr<Decomposition> decompose(const LayerProblem& problem, std::int64_t largest_width) const = 0;
};

}  // namespace mla
