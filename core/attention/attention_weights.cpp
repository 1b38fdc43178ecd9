#include "core/attention/attention_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "core/attention/pieces.h"
#include "core/ops/soft_cap.h"

namespace mla {

at::Tensor attention_weights(const at::Tensor& q, const at::Tensor& k, double scale, std::int64_t window,
                             const ForwardContext& context, double cap) {
  const std::int64_t batch = q.size(0), heads = q.size(1), queries = q.size(2), keys = k.size(2);
  const std::int64_t kv_heads = k.size(1), group = heads / kv_heads;
  const at::Tensor rows = q.reshape({batch, kv_heads, group * queries, q.size(3)});
  at::Tensor scores = at::matmul(rows, k.transpose(2, 3)).view({batch, heads, queries, keys}) * scale;
  if (cap > 0) scores = soft_capped(scores, cap);
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

namespace {

/// Weights that exist at a time where nobody wants them all.
constexpr std::int64_t kMostWeights = std::int64_t{1} << 24;

/// Block by block of queries, each over the keys up to its last query.
at::Tensor attend_in_blocks(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                            std::int64_t window, const ForwardContext& context, double cap) {
  const std::int64_t length = q.size(2);
  const std::int64_t rows = std::max<std::int64_t>(1, kMostWeights / (q.size(0) * q.size(1) * length));
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < length; begin += rows) {
    const std::int64_t count = std::min(rows, length - begin), keys = begin + count;
    ForwardContext own;
    if (context.documents.defined()) own.documents = context.documents.narrow(1, begin, count);
    const at::Tensor weights =
        attention_weights(q.narrow(2, begin, count), k.narrow(2, 0, keys), scale, window, own, cap);
    parts.push_back(weighted_values(weights, v.narrow(2, 0, keys)));
  }
  return at::cat(parts, 2);
}

}  // namespace

at::Tensor attend_by_weights(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                             std::int64_t window, ForwardContext& context, double cap) {
  if (!context.needs_attention_weights() && context.before.empty() && q.size(2) == k.size(2) &&
      q.size(0) * q.size(1) * q.size(2) * k.size(2) > kMostWeights)
    return attend_in_blocks(q, k, v, scale, window, context, cap);
  const at::Tensor weights = attention_weights(q, k, scale, window, context, cap);
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
