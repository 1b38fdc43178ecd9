#include "core/model/pool_heads.h"

#include <ATen/ATen.h>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/model/checkpoint.h"

namespace mla {
namespace {

/// [heads * head_dim, …] to [kv_heads * head_dim, …], the mean of each group of heads.
at::Tensor pooled(const at::Tensor& tensor, const HeadFields& heads) {
  std::vector<std::int64_t> sizes = tensor.sizes().vec();
  sizes[0] = heads.kv_heads * heads.head_dim;
  return tensor.reshape({heads.kv_heads, -1, heads.head_dim, tensor.numel() / tensor.size(0)}).mean(1).reshape(sizes);
}

bool belongs_to_kv_heads(const std::string& name) {
  return name.find(".k_proj.") != std::string::npos || name.find(".v_proj.") != std::string::npos;
}

void check_shapes(const ModelSpec& source, const ModelSpec& spec) {
  const auto same = [](const char* name, std::int64_t wanted, std::int64_t found) {
    if (wanted != found) throw ConfigError(cat(name, " = ", wanted, ": the model to begin from has ", found));
  };
  const UniformModel from = as_uniform(source), to = as_uniform(spec);
  same("vocab_size", spec.vocabulary, source.vocabulary);
  same("hidden_size", spec.hidden, source.hidden);
  same("intermediate_size", to.feed_forward.width, from.feed_forward.width);
  same("num_hidden_layers", to.layers, from.layers);
  same("num_attention_heads", to.heads.heads, from.heads.heads);
  same("head_dim", to.heads.head_dim, from.heads.head_dim);
  same("tie_word_embeddings", spec.tied_embeddings, source.tied_embeddings);
  if (to.heads.kv_heads < 1 || from.heads.kv_heads % to.heads.kv_heads != 0) {
    throw ConfigError(cat("num_key_value_heads = ", to.heads.kv_heads, ": does not divide the ", from.heads.kv_heads,
                          " of the model to begin from"));
  }
  if (from.heads.qk_norm_whole && to.heads.kv_heads != from.heads.kv_heads) {
    throw ConfigError(
        cat("num_key_value_heads = ", to.heads.kv_heads, ": ", source.family,
            " normalises keys over all heads together (QK-norm), so that heads cannot be mixed; expected ",
            from.heads.kv_heads));
  }
}

}  // namespace

Decoder pool_kv_heads(const Decoder& source, const ModelSpec& spec) {
  for (const LayerSpec& layer : source.spec().layers) {
    if (!grouped_query_heads(*layer.attention))
      throw ConfigError("the model to begin from is converted; name an unconverted one");
  }
  check_shapes(source.spec(), spec);
  const HeadFields heads = as_uniform(spec).heads;
  WeightMap weights;
  Decoder copy = source.clone();
  const auto add = [&](const std::string& name, const at::Tensor& tensor) {
    const at::Tensor weight = tensor.to(at::kFloat);
    weights[name] = belongs_to_kv_heads(name) ? pooled(weight, heads) : weight;
  };
  copy.visit_weights({[&](const std::string& name, const Linear& map) {
                        add(name + ".weight", map.to_dense());
                        if (map.bias().defined()) add(name + ".bias", map.bias());
                      },
                      add});
  return build_decoder(spec, std::move(weights), "the model to begin from", {});
}

}  // namespace mla
