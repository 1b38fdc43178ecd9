// What packed.cpp does in the host's memory, by LibTorch's operations where tensors stand: on other devices, and on the
// host with MLA_KERNELS=off. No function waits for a value.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/quantize/codec.h"

namespace mla {

/// Whether codes of x are made and read by loops over the host's memory.
bool has_codec_kernels(const at::Tensor& x);

/// pack_rows() and unpack_rows() of uint8 tensors, the same bytes.
at::Tensor pack_rows_by_operations(const at::Tensor& codes, int bits);
at::Tensor unpack_rows_by_operations(const at::Tensor& packed, std::int64_t width, int bits);

/// decode(), the same bits; NaN where `packed` has a fault, but for sparse entries.
at::Tensor decode_by_operations(const Packed& packed);

/// What `packed` makes of codes with these scales and zeros, all float32 and broadcast: the numbers of the codebook
/// stand for codes where it has one. Every product and sum is an operation, and rounds by itself.
at::Tensor code_values(const Packed& packed, const at::Tensor& codes, const at::Tensor& scale, const at::Tensor& zero);

/// Rounded to float16, as float32.
at::Tensor as_half(const at::Tensor& x);

/// A number as a tensor of x's type where x stands, to divide by: CUDA multiplies with the inverse of a host number,
/// which rounds otherwise.
at::Tensor number_beside(const at::Tensor& x, double number);

/// bool, elementwise: neither infinite nor no number.
at::Tensor finite_elements(const at::Tensor& x);

/// Packed::fault of x: the flat index of the first element that is not finite, or kNoFault.
at::Tensor first_fault(const at::Tensor& x);

/// Puts the entries in their places of `out`, float32 [rows, width].
void put_sparse_by_operations(const SparseRows& sparse, at::Tensor& out);

}  // namespace mla
