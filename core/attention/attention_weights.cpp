#include "core/attention/attention_weights.h"

#include <ATen/ATen.h>

#include <limits>

#include "core/attention/pieces.h"

namespace mla {

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k, double scale, std::int64_t window,
                             const ForwardContext& context) {
  const std::int64_t batch = q.size(0), heads = q.size(1), queries = q.size(2), keys = k.size(2);
  const std::int64_t kv_heads = k.size(1), group = heads / kv_heads;
  const at::Tensor rows = q.reshape({batch, kv_heads, group * queries, q.size(3)});
  at::Tensor scores = at::matmul(rows, k.transpose(2, 3)).view({batch, heads, queries, keys}) * scale;
  at::Tensor mask = context.before.empty() ? causal_mask(queries, keys, window, q.device())
                                           : causal_mask(queries, keys, window, q.device(), context.before);
  if (context.documents.defined()) {
    const at::Tensor visible =
        at::arange(keys, context.documents.options()).ge(context.documents.unsqueeze(2)).unsqueeze(1);
    mask = mask.defined() ? mask.logical_and(visible) : visible;
  }
  if (mask.defined()) scores = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  const bool narrow = q.scalar_type() == at::kHalf || q.scalar_type() == at::kBFloat16;
  return narrow ? scores.to(at::kFloat).softmax(-1).to(q.scalar_type()) : scores.softmax(-1);
}

at::Tensor attend_by_weights(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                             std::int64_t window, ForwardContext& context) {
  const at::Tensor weights = attention_weights(q, k, scale, window, context);
  context.show(Tap::kAttentionWeights, weights);
  if (context.wants(kAttentionWeights)) context.slots[kAttentionWeights] = weights;
  return weighted_values(weights, v);
}

at::Tensor weighted_values(const at::Tensor& weights, const at::Tensor& v) {
  const std::int64_t batch = weights.size(0), heads = weights.size(1), queries = weights.size(2),
                     keys = weights.size(3);
  const std::int64_t kv_heads = v.size(1);
  const at::Tensor rows = weights.reshape({batch, kv_heads, heads / kv_heads * queries, keys});
  return at::matmul(rows, v).view({batch, heads, queries, v.size(3)});
}

}  // namespace mla
