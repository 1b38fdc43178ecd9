#include "core/attention/grouped_query.h"

#include <ATen/ATen.h>

#include "core/attention/decode_step.h"
#include "core/base/error.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rotary_embedding.h"

namespace mla {

GroupedQueryAttention::GroupedQueryAttention(AttentionGeometry geometry, Weights weights)
    : geometry_(geometry), weights_(std::move(weights)) {
  expects(geometry_.kv_heads > 0 && geometry_.heads % geometry_.kv_heads == 0, "heads must be a multiple of kv_heads");
}

GroupedQueryAttention::Heads GroupedQueryAttention::project(const at::Tensor& hidden) const {
  const std::vector<at::Tensor> projected = project_together({&weights_.query, &weights_.key, &weights_.value}, hidden);
  Heads heads{split_heads(projected[0], geometry_.heads), split_heads(projected[1], geometry_.kv_heads),
              split_heads(projected[2], geometry_.kv_heads)};
  if (weights_.query_norm.defined()) {
    heads.query = rms_norm(heads.query, matching(weights_.query_norm, hidden), geometry_.norm_epsilon);
    heads.key = rms_norm(heads.key, matching(weights_.key_norm, hidden), geometry_.norm_epsilon);
  }
  return heads;
}

at::Tensor GroupedQueryAttention::forward(const at::Tensor& hidden, const RotaryTable& rotary,
                                          const QueryKeyProbe& probe, const at::Tensor& documents) const {
  const Heads heads = project(hidden);
  if (probe) probe(heads.query, heads.key);
  const at::Tensor query = rotate_heads(heads.query, rotary.cosine, rotary.sine);
  const at::Tensor key = rotate_heads(heads.key, rotary.cosine, rotary.sine);
  return weights_.output(
      merge_heads(causal_attention(query, key, heads.value, geometry_.softmax_scale, geometry_.window, documents)));
}

at::Tensor GroupedQueryAttention::forward_cached(const at::Tensor& hidden, const CachedStep& step, LayerCache& cache,
                                                 DecodePath) const {
  const Heads heads = project(hidden);
  const at::Tensor query = rotate_rows(heads.query, step.rotary.cosine, step.rotary.sine);
  const bool rotates_later = cache.before_rotation(0);
  const at::Tensor new_key = rotates_later ? heads.key : rotate_rows(heads.key, step.rotary.cosine, step.rotary.sine);
  if (!rotates_later && decode_serves(hidden, cache)) {
    const DecodeMemory keys{0, geometry_.kv_heads, 0, geometry_.head_dim},
        values{1, geometry_.kv_heads, 0, geometry_.head_dim};
    DecodeStep decode(cache, {new_key, heads.value});
    return weights_.output(
        merge_heads(decode.attend({{query.squeeze(2), keys}}, values, geometry_.softmax_scale, geometry_.window)));
  }
  const std::vector<std::int64_t> before = cache.lengths();
  at::Tensor key = cache.append(0, new_key);
  if (rotates_later) key = rotate_heads(key, step.history.cosine, step.history.sine);
  const at::Tensor value = cache.append(1, heads.value);
  return weights_.output(
      merge_heads(cached_attention(query, key, value, geometry_.softmax_scale, geometry_.window, before)));
}

std::vector<StreamShape> GroupedQueryAttention::cache_streams() const {
  return {{"key", geometry_.kv_heads, geometry_.head_dim}, {"value", geometry_.kv_heads, geometry_.head_dim}};
}

void GroupedQueryAttention::visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit) {
  weights_.query.visit("q_proj", visit);
  weights_.key.visit("k_proj", visit);
  weights_.value.visit("v_proj", visit);
  weights_.output.visit("o_proj", visit);
  if (weights_.query_norm.defined()) visit("q_norm.weight", weights_.query_norm);
  if (weights_.key_norm.defined()) visit("k_norm.weight", weights_.key_norm);
}

std::unique_ptr<Attention> GroupedQueryAttention::clone() const {
  const auto copy = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.detach().clone() : tensor; };
  return std::make_unique<GroupedQueryAttention>(
      geometry_, Weights{weights_.query.clone(), weights_.key.clone(), weights_.value.clone(), weights_.output.clone(),
                         copy(weights_.query_norm), copy(weights_.key_norm)});
}

}  // namespace mla
