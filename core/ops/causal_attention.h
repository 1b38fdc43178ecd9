// Causal attention of a whole sequence with itself.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// softmax over visible keys of (scale q k^T), times v, per head; query head h reads KV head h / (heads / kv_heads).
/// q [batch, heads, length, width], k [batch, kv_heads, length, width], v [batch, kv_heads, length, value width];
/// strides are free but for the last, which is 1. Query i sees keys first[b, i] … i; `first` int64 [batch, length], 0
/// where undefined. float32 and float64 on the CPU (has_kernels()). Returns [batch, heads, length, value width], which
/// lies in memory as [batch, length, heads, value width]. Differentiable; keeps its inputs, its result and one number a
/// query.
at::Tensor causal_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                 const at::Tensor& first);

}  // namespace mla
