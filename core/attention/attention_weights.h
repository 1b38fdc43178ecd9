// Attention in two steps, for layers whose attention weights others use or watch: slower than in one, and in memory of
// queries times keys.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/attention/forward_context.h"

namespace mla {

/// softmax(scale q k^T + causal mask), [batch, heads, queries, keys], the softmax in float32 or better. q [batch,
/// heads, queries, width] and k [batch, kv_heads, keys, width]: the queries are the last positions of the keys, or with
/// a cache stand behind context.before tokens. `window` as in causal_attention(); documents are those of the context.
/// With `cap` > 0 a logit x becomes cap * tanh(x / cap).
at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k, double scale, std::int64_t window,
                             const ForwardContext& context, double cap = 0);

/// The two steps together, softmax(…) v: shows the weights, and fills their slot where a later layer reads it.
at::Tensor attend_by_weights(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                             std::int64_t window, ForwardContext& context, double cap = 0);

/// weights v: [batch, heads, queries, value width], with v [batch, kv_heads, keys, value width].
at::Tensor weighted_values(const at::Tensor& weights, const at::Tensor& v);

}  // namespace mla
