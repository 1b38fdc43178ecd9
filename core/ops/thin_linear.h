// Linear maps of a few rows: the weights are read once, at the speed of memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace mla {

/// Rows beyond which a general matrix product is faster.
constexpr std::int64_t kThinRows = 16;

/// Whether x is of a form that thin_linear() serves, whatever the weight.
bool thin_rows_serve(const at::Tensor& x);
/// Whether thin_linear() serves the product: at most kThinRows rows, contiguous float32 or float64 weights of x's type
/// on the CPU, and no gradient wanted.
bool thin_linear_serves(const at::Tensor& x, const at::Tensor& weight);

/// x weight^T + bias for x [..., in], weight [out, in], bias [out] or undefined. A row's result does not depend on the
/// other rows, nor on the number of threads.
at::Tensor thin_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

/// A weight [rows, columns] that is made some rows at a time: `read` puts `count` rows from `first` on there, in
/// float32.
struct RowSource {
  std::int64_t rows = 0;
  std::function<void(std::int64_t first, std::int64_t count, float* to)> read;
};
/// x weight^T, x float32, of at most kThinRows rows and without a gradient; the weight is never there as a whole.
at::Tensor thin_linear(const at::Tensor& x, const RowSource& weight);

/// x weight^T for each of the weights; threads go from one weight to the next without waiting for each other.
std::vector<at::Tensor> thin_linears(const at::Tensor& x, const std::vector<at::Tensor>& weights);

/// Of x [batch, heads, in], each head with the matrix of its KV head in `weight` [kv_heads * out, in]: x weight_j^T,
/// and with `weight` [kv_heads * in, out]: x weight_j. Returns [batch, heads, out]. Types and devices as above.
at::Tensor head_products(const at::Tensor& x, const at::Tensor& weight, std::int64_t kv_heads);
at::Tensor head_sums(const at::Tensor& x, const at::Tensor& weight, std::int64_t kv_heads);

/// thin_linear() or dense_linear(), whichever serves.
at::Tensor linear_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

}  // namespace mla
