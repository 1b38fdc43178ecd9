#include "tests/support/tiny_models.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/random.h"

namespace mla::test {
namespace {

at::Tensor random_tensor(RandomStream& stream, std::vector<std::int64_t> shape, double scale, double shift = 0) {
  at::Tensor tensor = at::empty(shape, at::kDouble);
  double* data = tensor.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) data[i] = shift + scale * stream.normal();
  return tensor;
}

/// Every tensor that build_decoder asks for.
WeightMap random_weights(const Geometry& g, std::uint64_t seed) {
  RandomStream stream(seed, "tiny model");
  WeightMap weights;
  const auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t columns, bool bias) {
    weights[name + ".weight"] = random_tensor(stream, {rows, columns}, 0.25);
    if (bias) weights[name + ".bias"] = random_tensor(stream, {rows}, 0.3);
  };
  const auto norm = [&](const std::string& name, std::int64_t width) {
    weights[name + ".weight"] = random_tensor(stream, {width}, 0.2, 1);
  };
  weights["model.embed_tokens.weight"] = random_tensor(stream, {g.vocabulary, g.hidden}, 0.5);
  if (!g.tied_embeddings) weights["lm_head.weight"] = random_tensor(stream, {g.vocabulary, g.hidden}, 0.3);
  norm("model.norm", g.hidden);
  for (std::int64_t i = 0; i < g.layers; ++i) {
    const std::string prefix = cat("model.layers.", i, ".");
    norm(prefix + "input_layernorm", g.hidden);
    norm(prefix + "post_attention_layernorm", g.hidden);
    matrix(prefix + "self_attn.q_proj", g.heads * g.head_dim, g.hidden, g.query_bias);
    matrix(prefix + "self_attn.k_proj", g.kv_heads * g.head_dim, g.hidden, g.key_bias);
    matrix(prefix + "self_attn.v_proj", g.kv_heads * g.head_dim, g.hidden, g.value_bias);
    matrix(prefix + "self_attn.o_proj", g.hidden, g.heads * g.head_dim, g.output_bias);
    if (g.qk_norm) {
      norm(prefix + "self_attn.q_norm", g.head_dim);
      norm(prefix + "self_attn.k_norm", g.head_dim);
    }
    matrix(prefix + "mlp.gate_proj", g.intermediate, g.hidden, g.mlp_bias);
    matrix(prefix + "mlp.up_proj", g.intermediate, g.hidden, g.mlp_bias);
    matrix(prefix + "mlp.down_proj", g.hidden, g.intermediate, g.mlp_bias);
  }
  return weights;
}

Json config_of(const std::string& kind, const Geometry& g) {
  Json config = {{"model_type", g.family},
                 {"vocab_size", g.vocabulary},
                 {"hidden_size", g.hidden},
                 {"intermediate_size", g.intermediate},
                 {"num_hidden_layers", g.layers},
                 {"num_attention_heads", g.heads},
                 {"num_key_value_heads", g.kv_heads},
                 {"head_dim", g.head_dim},
                 {"max_position_embeddings", g.max_positions},
                 {"rms_norm_eps", g.norm_epsilon},
                 {"rope_theta", g.rope_theta},
                 {"tie_word_embeddings", g.tied_embeddings}};
  if (kind == "window") config["sliding_window"] = g.windows.front();
  if (kind == "yarn")
    config["rope_scaling"] = {{"rope_type", "yarn"},
                              {"factor", g.rope_scaling.factor},
                              {"original_max_position_embeddings", g.rope_scaling.original_positions}};
  return config;
}

}  // namespace

std::vector<std::string> tiny_kinds() { return {"mha", "gqa", "biases", "qk_norm", "window", "yarn"}; }

Geometry tiny_geometry(const std::string& kind) {
  Geometry g;
  g.family = kind == "biases" ? "qwen2" : kind == "qk_norm" ? "qwen3" : kind == "window" ? "mistral" : "llama";
  g.vocabulary = 50;
  g.hidden = 32;
  g.intermediate = 48;
  g.layers = 2;
  g.heads = 4;
  g.kv_heads = kind == "mha" ? 4 : 2;
  g.head_dim = 8;
  g.max_positions = 64;
  g.norm_epsilon = 1e-6;
  g.tied_embeddings = kind == "gqa";
  g.query_bias = g.key_bias = g.value_bias = kind == "biases";
  g.qk_norm = kind == "qk_norm";
  if (kind == "window") g.windows = {5, 5};
  if (kind == "yarn") {
    g.rope_scaling.type = "yarn";
    g.rope_scaling.factor = 4;
    g.rope_scaling.original_positions = 16;
  }
  return g;
}

Decoder tiny_decoder(const Geometry& geometry, at::ScalarType dtype, std::uint64_t seed) {
  LoadOptions options;
  options.dtype = dtype;
  return build_decoder(geometry, Json::object(), random_weights(geometry, seed), "tiny model", options);
}

Checkpoint tiny_checkpoint(const std::string& kind, at::ScalarType dtype) {
  const Geometry geometry = tiny_geometry(kind);
  return {tiny_decoder(geometry, dtype), config_of(kind, geometry), {}};
}

at::Tensor random_ids(const Geometry& geometry, std::int64_t batch, std::int64_t length, std::uint64_t seed) {
  RandomStream stream(seed, "ids");
  at::Tensor ids = at::empty({batch, length}, at::kLong);
  std::int64_t* data = ids.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i)
    data[i] = static_cast<std::int64_t>(stream.below(static_cast<std::uint64_t>(geometry.vocabulary)));
  return ids;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace mla::test
