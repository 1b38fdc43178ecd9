// What the forward pass leaves for the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// The values of `x` for a backward pass to find: float32 ones rounded to bfloat16 where products are (half the memory;
/// products with weights round them anyway), all others as they are. Neighbouring operations that keep the same values,
/// under whatever shape, share them.
at::Tensor kept(const at::Tensor& x);
/// Whether it rounds `x`.
bool keeps_rounded(const at::Tensor& x);

/// The values again, in the dtype that they had.
at::Tensor taken(const at::Tensor& kept, at::ScalarType dtype);

}  // namespace mla
