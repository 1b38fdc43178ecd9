// A converted model in the form that other engines know as DeepSeek's multi-head latent attention: what every writer of
// a served model starts from, whatever its file format.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/serve/identity_norm.h"
#include "core/serve/rope_ladder.h"

namespace mla {

/// Sizes of the form; all layers have the same. Cached per token and layer: latent + rotated values.
struct DeepSeekSizes {
  std::int64_t layers = 0, hidden = 0, heads = 0, intermediate = 0, vocabulary = 0, max_positions = 0;
  std::int64_t latent = 0;   ///< R, width of the latent
  std::int64_t rotated = 0;  ///< r, width of the rotated key that all heads share
  std::int64_t content = 0;  ///< n, position-free dims of a query or key head
  std::int64_t value = 0;    ///< v, dims of a value head
  bool query_bias = false;   ///< which biases there are; every other one was taken into these, or drops out
  bool kv_a_bias = false;
  bool output_bias = false;

  std::int64_t query_width() const { return content + rotated; }
  std::int64_t cached() const { return latent + rotated; }
  bool has_bias() const { return query_bias || kv_a_bias || output_bias; }
};

/// Tensors of one layer, float32, on the host; logits are q . k / sqrt(n + r). A head's dims are its n position-free
/// ones, then its r rotated ones, pair i of them (2i, 2i + 1).
struct DeepSeekLayer {
  at::Tensor input_norm;   ///< [d]
  at::Tensor query;        ///< [H (n + r), d]
  at::Tensor query_bias;   ///< [H (n + r)], or undefined
  at::Tensor kv_a;         ///< [R + r, d]: latent rows, then those of the rotated key
  at::Tensor kv_a_bias;    ///< [R + r], or undefined
  at::Tensor kv_a_norm;    ///< [R]: weight of the norm on the latent
  at::Tensor kv_b;         ///< [H (n + v), R]: per query head the n rows of its key, then the v of its value
  at::Tensor output;       ///< [d, H v]
  at::Tensor output_bias;  ///< [d], or undefined
  at::Tensor mlp_norm;     ///< [d]
  at::Tensor gate, up;     ///< [m, d]
  at::Tensor down;         ///< [d, m]
};

/// Sizes that a form is blown up to, with zero rows; it computes the same. 0: as the model has it.
struct FormPadding {
  std::int64_t latent = 0, rotated = 0;
};

/// A model in this form. Layers are made when they are asked for, so that one of them is held at a time beside the
/// model.
class DeepSeekForm {
 public:
  /// `decoder` must live as long. `where` stands in errors: "--format deepseek_v3". Throws ConfigError, with the
  /// reason and the nearest thing that can be written, for a model that has no such form: layers of another kind than
  /// `latent`, of different sizes, or with different rotated pairs, QK-norm, sliding windows, biases of the
  /// feed-forward part, rotation that depends on the length.
  DeepSeekForm(const Decoder& decoder, const FormPadding& padding, std::string where);

  const DeepSeekSizes& sizes() const { return sizes_; }
  const RopeLadder& rope() const { return rope_; }
  const ModelSpec& spec() const { return decoder_.spec(); }

  /// A bound that no token's latent exceeds, whatever the text: the largest root mean square over its elements.
  double largest_latent() const;
  /// Of the largest weight among queries and rotated keys, its size.
  double largest_query() const;

  /// How layer() treats the norm on the latent; absent: weights of ones, and the layer computes without the norm.
  void set_norm(const IdentityNorm& norm) { norm_ = norm; }
  const std::optional<IdentityNorm>& norm() const { return norm_; }
  double epsilon() const { return norm_ ? norm_->epsilon : spec().norm_epsilon; }

  DeepSeekLayer layer(std::int64_t index) const;
  at::Tensor embedding() const;   ///< [vocabulary, d], float32
  at::Tensor final_norm() const;  ///< [d]
  at::Tensor lm_head() const;     ///< [vocabulary, d]: never tied, since the embedding may be rescaled

 private:
  const Decoder& decoder_;
  std::string where_;
  DeepSeekSizes sizes_;
  RopeLadder rope_;
  std::optional<IdentityNorm> norm_;
};

/// The layer that was asked for last, for writers that ask tensor by tensor: tensors of one are written one after
/// another.
class DeepSeekLayers {
 public:
  /// `form` must live as long.
  explicit DeepSeekLayers(const DeepSeekForm& form) : form_(form) {}
  const DeepSeekLayer& at(std::int64_t index) {
    if (index == index_) return layer_;
    layer_ = {};  // before the next one is made: one layer at a time
    layer_ = form_.layer(index);
    index_ = index;
    return layer_;
  }

 private:
  const DeepSeekForm& form_;
  std::int64_t index_ = -1;
  DeepSeekLayer layer_;
};

}  // namespace mla
