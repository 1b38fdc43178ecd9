#include "core/model/initialize.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/model/checkpoint.h"

namespace mla {
namespace {

/// Collects the tensors of a model under their Hugging Face names.
class WeightMaker {
 public:
  WeightMaker(std::uint64_t seed, double deviation) : seed_(seed), deviation_(deviation) {}

  /// Normal numbers with the model's deviation times `scale`.
  void matrix(const std::string& name, std::int64_t rows, std::int64_t columns, double scale = 1) {
    RandomStream stream(seed_, name);
    at::Tensor tensor = at::empty({rows, columns}, at::kFloat);
    float* data = tensor.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < tensor.numel(); ++i)
      data[i] = static_cast<float>(scale * deviation_ * stream.normal());
    weights_[name] = tensor;
  }
  void projection(const std::string& name, std::int64_t rows, std::int64_t columns, bool bias, double scale = 1) {
    matrix(name + ".weight", rows, columns, scale);
    if (bias) weights_[name + ".bias"] = at::zeros({rows}, at::kFloat);
  }
  void norm(const std::string& name, std::int64_t width) { weights_[name + ".weight"] = at::ones({width}, at::kFloat); }

  WeightMap take() { return std::move(weights_); }

 private:
  std::uint64_t seed_;
  double deviation_;
  WeightMap weights_;
};

void make_layer(WeightMaker& make, const Geometry& geometry, const std::string& prefix) {
  const std::int64_t query_rows = geometry.heads * geometry.head_dim, key_rows = geometry.kv_heads * geometry.head_dim;
  const double residual = 1 / std::sqrt(2 * static_cast<double>(geometry.layers));
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  make.norm(prefix + "input_layernorm", geometry.hidden);
  make.norm(prefix + "post_attention_layernorm", geometry.hidden);
  make.projection(attention + "q_proj", query_rows, geometry.hidden, geometry.query_bias);
  make.projection(attention + "k_proj", key_rows, geometry.hidden, geometry.key_bias);
  make.projection(attention + "v_proj", key_rows, geometry.hidden, geometry.value_bias);
  make.projection(attention + "o_proj", geometry.hidden, query_rows, geometry.output_bias, residual);
  if (geometry.qk_norm) {
    make.norm(attention + "q_norm", geometry.head_dim);
    make.norm(attention + "k_norm", geometry.head_dim);
  }
  make.projection(mlp + "gate_proj", geometry.intermediate, geometry.hidden, geometry.mlp_bias);
  make.projection(mlp + "up_proj", geometry.intermediate, geometry.hidden, geometry.mlp_bias);
  make.projection(mlp + "down_proj", geometry.hidden, geometry.intermediate, geometry.mlp_bias, residual);
}

}  // namespace

Decoder initialize_decoder(const Geometry& geometry, std::uint64_t seed, double deviation) {
  WeightMaker make(seed, deviation);
  make.matrix("model.embed_tokens.weight", geometry.vocabulary, geometry.hidden);
  make.norm("model.norm", geometry.hidden);
  if (!geometry.tied_embeddings) make.matrix("lm_head.weight", geometry.vocabulary, geometry.hidden);
  for (std::int64_t layer = 0; layer < geometry.layers; ++layer)
    make_layer(make, geometry, cat("model.layers.", layer, "."));
  return build_decoder(geometry, Json::object(), make.take(), "a new model", {});
}

}  // namespace mla
