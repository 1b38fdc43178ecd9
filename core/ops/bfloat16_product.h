// Products of float32 matrices that are rounded to bfloat16 as they are multiplied.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// a b for float32 a [rows, inner] and b [inner, columns] on any device, of any strides: each factor rounded to
/// bfloat16, to nearest even, sums in float32. Not differentiable. With a kernel (has_fast_bfloat16()) sums are taken
/// in the order of `inner`, in the steps of bfloat16_kernels.h, with the processor's rounding (numbers below 2^-126
/// count as zero); elsewhere LibTorch multiplies what was rounded, to the same numbers but for the sums' rounding: on
/// GPUs by their units for bfloat16 (LibTorch 2.8 or later), else as fast as float32. A kernel's numbers do not depend
/// on the number of threads, nor those of a row on the other rows.
at::Tensor bfloat16_product(const at::Tensor& a, const at::Tensor& b);

/// sum += a b, with a contiguous float32 `sum` [rows, columns]; otherwise the same.
void add_bfloat16_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

}  // namespace mla
