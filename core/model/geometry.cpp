#include "core/model/geometry.h"

#include <cmath>

namespace mla {

AttentionGeometry Geometry::attention(std::int64_t layer) const {
  AttentionGeometry attention;
  attention.hidden = hidden;
  attention.heads = heads;
  attention.kv_heads = kv_heads;
  attention.head_dim = head_dim;
  attention.softmax_scale = rotary().logit_scale() / std::sqrt(static_cast<double>(head_dim));
  attention.window = windows.empty() ? 0 : windows.at(static_cast<std::size_t>(layer));
  attention.norm_epsilon = norm_epsilon;
  return attention;
}

std::int64_t attention_parameters(const Geometry& geometry) {
  const std::int64_t query = geometry.heads * geometry.head_dim, key_value = geometry.kv_heads * geometry.head_dim;
  std::int64_t count = 2 * geometry.hidden * (query + key_value);
  if (geometry.query_bias) count += query;
  if (geometry.key_bias) count += key_value;
  if (geometry.value_bias) count += key_value;
  if (geometry.output_bias) count += geometry.hidden;
  return count;
}

ParameterCount count_parameters(const Geometry& geometry) {
  ParameterCount count;
  count.embedding = geometry.vocabulary * geometry.hidden;
  count.output = geometry.tied_embeddings ? 0 : count.embedding;
  count.attention = geometry.layers * attention_parameters(geometry);
  count.mlp = geometry.layers * 3 * geometry.hidden * geometry.intermediate;
  if (geometry.mlp_bias) count.mlp += geometry.layers * (2 * geometry.intermediate + geometry.hidden);
  count.norms = geometry.layers * 2 * geometry.hidden + geometry.hidden;
  if (geometry.qk_norm) count.norms += geometry.layers * 2 * geometry.head_dim;
  return count;
}

}  // namespace mla
