#include "core/attention/pieces.h"

#include <ATen/ATen.h>

#include <optional>

#include "core/base/error.h"
#include "core/kv_cache/layer_cache.h"
#include "core/ops/causal_attention.h"
#include "core/ops/products.h"
#include "core/ops/rotary_embedding.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

/// The first position that each query sees; undefined when that is always position 0.
at::Tensor first_visible(std::int64_t length, std::int64_t window, const at::Tensor& documents, std::int64_t batch) {
  if (window == 0 || length <= window) return documents;
  const at::Tensor begin = (at::arange(length, at::kLong) - (window - 1)).clamp_min(0).expand({batch, length});
  return documents.defined() ? at::maximum(begin, documents) : begin;
}

/// Attention by LibTorch. Devices that round products to bfloat16 have kernels for all of it in these numbers, whose
/// sums stay float32.
at::Tensor composed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const std::optional<at::Tensor>& mask, bool causal, double scale) {
  const std::int64_t group = q.size(1) / k.size(1);
  const bool rounds = !q.is_cpu() && current_products() == Products::kBFloat16 && q.scalar_type() == at::kFloat;
  const auto as_multiplied = [&](const at::Tensor& x) { return rounds ? x.to(at::kBFloat16) : x; };
  const at::Tensor out =
      at::scaled_dot_product_attention(as_multiplied(q), repeat_heads(as_multiplied(k), group),
                                       repeat_heads(as_multiplied(v), group), mask, 0.0, causal, scale);
  return out.to(q.scalar_type());
}

}  // namespace

at::Tensor split_heads(const at::Tensor& x, std::int64_t heads) {
  return x.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

at::Tensor merge_heads(const at::Tensor& x) {
  return x.transpose(1, 2).reshape({x.size(0), x.size(2), x.size(1) * x.size(3)});
}

at::Tensor repeat_heads(const at::Tensor& x, std::int64_t group) {
  return group == 1 ? x : x.repeat_interleave(group, 1);
}

at::Tensor causal_mask(std::int64_t queries, std::int64_t keys, std::int64_t window, const at::Device& device) {
  const bool windowed = window > 0 && keys > window;
  if (queries == 1 && !windowed) return {};
  const at::Tensor query = at::arange(keys - queries, keys, at::TensorOptions(at::kLong).device(device)).unsqueeze(1);
  const at::Tensor key = at::arange(keys, at::TensorOptions(at::kLong).device(device)).unsqueeze(0);
  at::Tensor mask = key.le(query);
  if (windowed) mask = mask.logical_and(key.gt(query - window));
  return mask;
}

at::Tensor causal_mask(std::int64_t queries, std::int64_t keys, std::int64_t window, const at::Device& device,
                       const std::vector<std::int64_t>& before) {
  if (all_equal(before)) return causal_mask(queries, before.front() + queries, window, device);
  const at::TensorOptions options = at::TensorOptions(at::kLong).device(device);
  const at::Tensor begin = at::tensor(before, at::kLong).to(options, /*non_blocking=*/true).view({-1, 1, 1, 1});
  const at::Tensor query = begin + at::arange(queries, options).view({1, 1, -1, 1}), key = at::arange(keys, options);
  at::Tensor mask = key.le(query);
  // A padded row may stand behind all keys; with no key to see it would be undefined.
  if (window > 0) mask = mask.logical_and(key.gt(query.clamp_max(keys - 1) - window));
  return mask;
}

at::Tensor rotate_rows(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine) {
  const std::int64_t batch = x.size(0), heads = x.size(1), length = x.size(2), width = x.size(3);
  if (cosine.size(-1) == 0 || cosine.size(-2) == length) return rotate_heads(x, cosine, sine);
  const at::Tensor flat = x.transpose(1, 2).reshape({1, batch * length, heads, width}).transpose(1, 2);
  return rotate_heads(flat, cosine, sine).transpose(1, 2).reshape({batch, length, heads, width}).transpose(1, 2);
}

at::Tensor cached_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                            std::int64_t window, const std::vector<std::int64_t>& before) {
  if (all_equal(before)) return causal_attention(q, k, v, scale, window);
  const at::Tensor mask = causal_mask(q.size(2), k.size(2), window, q.device(), before);
  return composed_attention(q, k, v, mask, false, scale);
}

at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                            std::int64_t window, const at::Tensor& documents) {
  const std::int64_t queries = q.size(2), keys = k.size(2);
  expects(!documents.defined() || queries == keys, "documents are separated within whole sequences only");
  if (has_kernels(q) && queries == keys && queries > 1) {
    return causal_self_attention(q, k, v, scale, first_visible(keys, window, documents, q.size(0)));
  }
  const bool plain = queries == keys && (window == 0 || keys <= window) && !documents.defined();
  at::Tensor mask = plain ? at::Tensor() : causal_mask(queries, keys, window, q.device());
  if (documents.defined() && mask.defined()) {
    const at::Tensor key = at::arange(keys, documents.options());
    mask = mask.logical_and(key.ge(documents.unsqueeze(2))).unsqueeze(1);
  }
  std::optional<at::Tensor> given;
  if (mask.defined()) given = mask;
  return composed_attention(q, k, v, given, plain, scale);
}

}  // namespace mla
