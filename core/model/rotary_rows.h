// The order of rows in projections to queries and keys.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mla {

/// Rows (2k, 2k + 1) of each head, the two dims of a rotated pair beside each other as Meta's, llama2.c's and GGUF's
/// files have them, become rows k and k + head_dim / 2, as Hugging Face's. `weight`: [rows] or [rows, columns].
at::Tensor to_half_split(const at::Tensor& weight, std::int64_t head_dim);

/// The other way round.
at::Tensor to_interleaved(const at::Tensor& weight, std::int64_t head_dim);

}  // namespace mla
