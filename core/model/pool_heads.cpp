#include "core/model/pool_heads.h"

#include <ATen/ATen.h>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/model/checkpoint.h"

namespace mla {
namespace {

/// [heads * head_dim, …] to [kv_heads * head_dim, …], the mean of each group of heads.
at::Tensor pooled(const at::Tensor& tensor, const Geometry& geometry) {
  std::vector<std::int64_t> sizes = tensor.sizes().vec();
  sizes[0] = geometry.kv_heads * geometry.head_dim;
  return tensor.reshape({geometry.kv_heads, -1, geometry.head_dim, tensor.numel() / tensor.size(0)})
      .mean(1)
      .reshape(sizes);
}

bool belongs_to_kv_heads(const std::string& name) {
  return name.find(".k_proj.") != std::string::npos || name.find(".v_proj.") != std::string::npos;
}

void check_shapes(const Geometry& source, const Geometry& geometry) {
  const auto same = [](const char* name, std::int64_t wanted, std::int64_t found) {
    if (wanted != found) throw ConfigError(cat(name, " = ", wanted, ": the model to begin from has ", found));
  };
  same("vocab_size", geometry.vocabulary, source.vocabulary);
  same("hidden_size", geometry.hidden, source.hidden);
  same("intermediate_size", geometry.intermediate, source.intermediate);
  same("num_hidden_layers", geometry.layers, source.layers);
  same("num_attention_heads", geometry.heads, source.heads);
  same("head_dim", geometry.head_dim, source.head_dim);
  same("tie_word_embeddings", geometry.tied_embeddings, source.tied_embeddings);
  if (geometry.kv_heads < 1 || source.kv_heads % geometry.kv_heads != 0) {
    throw ConfigError(cat("num_key_value_heads = ", geometry.kv_heads, ": does not divide the ", source.kv_heads,
                          " of the model to begin from"));
  }
}

}  // namespace

Decoder pool_kv_heads(const Decoder& source, const Geometry& geometry) {
  for (const auto& layer : source.layers) {
    if (!dynamic_cast<const GroupedQueryAttention*>(layer.attention.get())) {
      throw ConfigError("the model to begin from is converted; name an unconverted one");
    }
  }
  check_shapes(source.geometry, geometry);
  WeightMap weights;
  Decoder copy = source.clone();
  copy.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    const at::Tensor weight = tensor.to(at::kFloat);
    weights[name] = belongs_to_kv_heads(name) ? pooled(weight, geometry) : weight;
  });
  return build_decoder(geometry, Json::object(), std::move(weights), "the model to begin from", {});
}

}  // namespace mla
