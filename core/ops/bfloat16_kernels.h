// The kernels behind bfloat16_product.h, one for each kind of unit that processors have for it.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// Products of pairs in vector registers (AVX512-BF16). A sum takes two products at a time, in the order of `inner`.
bool has_bfloat16_registers();
/// The same by a unit for matrices (AMX). A sum takes 32 products at a time: first those of the even and of the odd
/// numbers apart.
bool has_bfloat16_tiles();

/// out = a b, or out += a b, for float32 a [rows, inner] and b [inner, columns] on the CPU, none of them empty, and a
/// contiguous out; the processor must have the unit.
void bfloat16_register_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, bool add);
void bfloat16_tile_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, bool add);

}  // namespace mla
