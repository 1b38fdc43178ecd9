// What the forward and the backward pass of causal attention share: blocks of queries, tiles of keys, and who sees
// whom.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "core/ops/packed_heads.h"
#include "core/ops/tile_product.h"
#include "core/ops/vector_math.h"

namespace mla::causal {

/// Queries, and keys, of one block: enough to work on while they lie in a near cache. A multiple of a register tile's
/// rows and columns.
constexpr std::int64_t kBlock = 144;
static_assert(kBlock % kTileRows == 0 && kBlock % kTileColumns<float> == 0 && kBlock % kTileColumns<double> == 0);

/// Inputs, result and the logarithm of each query's softmax denominator.
struct Tensors {
  at::Tensor q, k, v, out, lse, first;
  std::int64_t batch() const { return q.size(0); }
  std::int64_t heads() const { return q.size(1); }
  std::int64_t kv_heads() const { return k.size(1); }
  std::int64_t group() const { return heads() / kv_heads(); }
  std::int64_t length() const { return q.size(2); }
};

/// Gradients of the result and of the inputs.
struct Gradients {
  at::Tensor dout, dq, dk, dv;
};

/// out and lse from the other tensors.
void forward(const Tensors& t, double scale);
/// dq, dk and dv from the tensors and dout.
void backward(const Tensors& t, const Gradients& g, double scale);

/// Queries begin … end - 1 of one head and the keys that they see.
struct Queries {
  std::int64_t begin, end;
  const std::int64_t* first;  ///< of the sequence; may be null
  std::int64_t first_key(std::int64_t query) const { return first ? first[query] : 0; }
  std::int64_t lowest_key() const { return first ? *std::min_element(first + begin, first + end) : 0; }
};
/// Keys of a tile that a query, or any of a strip of queries, sees; counted from the tile's first.
struct Span {
  std::int64_t from, to;
  bool empty() const { return from >= to; }
  std::int64_t size() const { return to - from; }
};
MLA_INLINE Span visible(std::int64_t tile, std::int64_t first_key, std::int64_t last_query) {
  return {std::max<std::int64_t>(first_key - tile, 0), std::min(last_query + 1 - tile, kBlock)};
}
MLA_INLINE Queries strip_of(const Queries& block, std::int64_t begin) {
  return {begin, std::min(begin + kTileRows, block.end), block.first};
}

/// Products of a strip of packed queries with the keys of the span, and more to whole panels.
template <class T, int BYTES>
MLA_INLINE void strip_scores(const T* strip, std::int64_t strip_width, const T* panels, std::int64_t width,
                             const Span& span, T* scores) {
  constexpr std::int64_t kPanel = kTileColumns<T>;
  const LeftFactor<T> queries{strip, strip_width, 1};
  std::int64_t j = span.from / kPanel * kPanel;
  if constexpr (BYTES == 64) {
    for (; j + kPanel < span.to; j += 2 * kPanel) {  // a vector from each of two panels
      register_tile<T, 64, 2>(queries, {panels + j * width, kPanel, kPanel * width}, width, scores + j, kBlock, false);
    }
    if (j < span.to) {
      register_tile<T, 64, 1>(queries, {panels + j * width, kPanel, 0}, width, scores + j, kBlock, false);
    }
  } else {
    for (; j < span.to; j += kPanel) {
      register_tile<T, 32, 2>(queries, {panels + j * width, kPanel, kLanes<T>}, width, scores + j, kBlock, false);
    }
  }
}

inline const std::int64_t* first_of(const Tensors& t, std::int64_t head) {
  return t.first.defined() ? t.first.const_data_ptr<std::int64_t>() + head / t.heads() * t.length() : nullptr;
}
/// Index of the KV head that a head reads; both are counted over the batch.
inline std::int64_t kv_head_of(const Tensors& t, std::int64_t head) { return head / t.group(); }

}  // namespace mla::causal
