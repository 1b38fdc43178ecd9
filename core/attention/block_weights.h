// Linear maps whose matrix is held as blocks of small codes, as GGUF files have them.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "core/attention/linear.h"
#include "core/ops/block_panels.h"

namespace mla {

/// The storage "gguf": NAME.blocks, uint8 [ceil(rows / 16), blocks of a row, bytes of sixteen rows' block], as
/// core/ops/block_panels.h says. A product takes each 32 columns of x rounded to 8-bit codes; where a gradient is
/// wanted, and for float64 and half types, it is that with the decoded matrix.
std::shared_ptr<const WeightStorage> block_storage(const BlockFormat& format);

/// The map with its matrix rounded to blocks; the bias stays. Throws DataError for numbers that are not finite or have
/// no scale in float16. Of a format that encode_blocks() knows.
Linear hold_as_blocks(const Linear& map, const BlockFormat& format);

}  // namespace mla
