// Numbers rounded to blocks of small codes, as ggml's own quantizers do it without weights for importance.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "core/ops/block_panels.h"

namespace mla {

/// Whether encode_blocks() makes blocks of this format: Q8_0, Q4_0 and Q4_1.
bool encodes_blocks(const BlockFormat& format);
/// "Q8_0, Q4_0, Q4_1", for messages.
std::string encoded_block_names();

/// x float32 [rows, columns] on the CPU as rows of blocks, uint8 [rows, blocks * bytes]: the bytes that ggml's
/// reference quantizers give (quantize_row_q8_0_ref and its like). The last block of a row is filled up with zeros.
/// Throws DataError for numbers that are not finite, or whose scale is not as float16.
at::Tensor encode_blocks(const BlockFormat& format, const at::Tensor& x);

}  // namespace mla
