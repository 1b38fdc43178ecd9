// Small pieces that every kind of attention is made of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mla {

/// [batch, length, heads * width] -> [batch, heads, length, width].
at::Tensor split_heads(const at::Tensor& x, std::int64_t heads);

/// [batch, heads, length, width] -> [batch, length, heads * width].
at::Tensor merge_heads(const at::Tensor& x);

/// Each KV head repeated for the query heads of its group: [batch, kv_heads, …] -> [batch, kv_heads * group, …].
at::Tensor repeat_heads(const at::Tensor& x, std::int64_t group);

/// softmax(scale q k^T + causal mask) v, where the queries are the last q.size(2) of k.size(2) positions.
/// q [batch, heads, queries, width], k [batch, kv_heads, keys, width], v [batch, kv_heads, keys, value width], heads a
/// multiple of kv_heads; window > 0 limits each query to that many last positions. `documents` may hold the first
/// position that each query may look at, int64 [batch, queries] with as many queries as keys; undefined: position 0.
/// Returns [batch, heads, queries, value width].
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                            std::int64_t window, const at::Tensor& documents = {});

/// The same for sequences of different lengths: the queries of sequence b stand behind before[b] tokens, of the keys
/// those up to a query's own position count. All before equal: the queries are the last ones, as above.
at::Tensor cached_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                            std::int64_t window, const std::vector<std::int64_t>& before);

/// True where query i (one of the last `queries` of `keys` positions) may look at key j; bool [queries, keys].
/// Undefined when every query may see every key.
at::Tensor causal_mask(std::int64_t queries, std::int64_t keys, std::int64_t window, const at::Device& device);

/// Likewise for queries behind before[b] tokens; [batch, 1, queries, keys] where the sequences differ.
at::Tensor causal_mask(std::int64_t queries, std::int64_t keys, std::int64_t window, const at::Device& device,
                       const std::vector<std::int64_t>& before);

/// rotate_heads() of x [batch, heads, length, width] by tables for `length` positions, or for batch * length where each
/// sequence has its own.
at::Tensor rotate_rows(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine);

}  // namespace mla
