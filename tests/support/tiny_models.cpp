#include "tests/support/tiny_models.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/model/family.h"

namespace mla::test {
namespace {

at::Tensor random_tensor(RandomStream& stream, std::vector<std::int64_t> shape, double scale, double shift = 0) {
  at::Tensor tensor = at::empty(shape, at::kDouble);
  double* data = tensor.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) data[i] = shift + scale * stream.normal();
  return tensor;
}

at::Tensor random_parameter(RandomStream& stream, const Parameter& parameter) {
  switch (parameter.role) {
    case ParameterRole::kNorm:
      return random_tensor(stream, parameter.shape, 0.2, 1);
    case ParameterRole::kBias:
      return random_tensor(stream, parameter.shape, 0.3);
    default:
      return random_tensor(stream, parameter.shape, 0.25);
  }
}

/// Every tensor that build_decoder asks for.
WeightMap random_weights(const ModelSpec& spec, std::uint64_t seed) {
  RandomStream stream(seed, "tiny model");
  WeightMap weights;
  weights["model.embed_tokens.weight"] = random_tensor(stream, {spec.vocabulary, spec.hidden}, 0.5);
  if (!spec.tied_embeddings) weights["lm_head.weight"] = random_tensor(stream, {spec.vocabulary, spec.hidden}, 0.3);
  weights["model.norm.weight"] = random_tensor(stream, {spec.hidden}, 0.2, 1);
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    std::vector<ModelParameter> all = layer_parameters(spec, layer);
    std::stable_partition(all.begin(), all.end(),
                          [](const ModelParameter& one) { return one.name.find("layernorm") != std::string::npos; });
    for (const ModelParameter& one : all) weights[one.name] = random_parameter(stream, one);
  }
  return weights;
}

}  // namespace

std::vector<std::string> tiny_kinds() { return {"mha", "gqa", "biases", "qk_norm", "window", "yarn"}; }

UniformModel tiny_model(const std::string& kind) {
  UniformModel tiny;
  ModelSpec& model = tiny.model;
  model.family = kind == "biases" ? "qwen2" : kind == "qk_norm" ? "qwen3" : kind == "window" ? "mistral" : "llama";
  model.vocabulary = 50;
  model.hidden = 32;
  model.max_positions = 64;
  model.norm_epsilon = 1e-6;
  model.rope_dim = 8;
  model.tied_embeddings = kind == "gqa";
  if (kind == "yarn") {
    model.rope_scaling.type = "yarn";
    model.rope_scaling.factor = 4;
    model.rope_scaling.original_positions = 16;
  }
  HeadFields& heads = tiny.heads;
  heads.heads = 4;
  heads.kv_heads = kind == "mha" ? 4 : 2;
  heads.head_dim = 8;
  heads.query_bias = heads.key_bias = heads.value_bias = kind == "biases";
  heads.qk_norm = kind == "qk_norm";
  tiny.feed_forward.width = 48;
  tiny.layers = 2;
  if (kind == "window") tiny.windows = {5, 5};
  return tiny;
}

ModelSpec tiny_spec(const std::string& kind) { return tiny_model(kind).spec(); }

Decoder tiny_decoder(const ModelSpec& spec, at::ScalarType dtype, std::uint64_t seed) {
  const LoadOptions options{.placement = Placement::in(dtype)};
  return build_decoder(spec, random_weights(spec, seed), "tiny model", options);
}

Checkpoint tiny_checkpoint(const std::string& kind, at::ScalarType dtype) {
  const ModelSpec spec = tiny_spec(kind);
  return {tiny_decoder(spec, dtype), write_published_config(spec, {{"model_type", spec.family}}, "tiny"), {}};
}

at::Tensor random_ids(const ModelSpec& spec, std::int64_t batch, std::int64_t length, std::uint64_t seed) {
  RandomStream stream(seed, "ids");
  at::Tensor ids = at::empty({batch, length}, at::kLong);
  std::int64_t* data = ids.mutable_data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i)
    data[i] = static_cast<std::int64_t>(stream.below(static_cast<std::uint64_t>(spec.vocabulary)));
  return ids;
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace mla::test
