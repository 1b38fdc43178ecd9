// The rotation of query and key heads by their position.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// Rotates the first dims of each head of `x` [batch, heads, length, width]: with r pairs in `cosine` and `sine`, dims
/// k and r + k (k < r) form a pair; dims from 2 r on stay as they are. The tables are [length, r], or [heads', length,
/// r] with heads a multiple of heads', each serving a run of heads; longer tables serve by their first length rows.
/// Differentiable in x; keeps the tables alone. The result lies in memory as [batch, length, heads, width].
at::Tensor rotate_heads(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine);

}  // namespace mla
