// Matrix products with many rows, through the faster of the libraries that LibTorch holds.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// a b for a [rows, inner] and b [inner, columns] with any strides, on any device; not differentiable.
at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b);

/// sum += a b, likewise, for a contiguous `sum` [rows, columns].
void add_matrix_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

/// x weight^T + bias for x [..., in], weight [out, in], bias [out] or undefined; differentiable.
at::Tensor dense_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

}  // namespace mla
