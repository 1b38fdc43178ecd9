// Rows of a matrix of packed codes as numbers.
#pragma once

#include <cstdint>

#include "core/ops/decode_attention.h"

namespace mla {

/// Rows first … first + count - 1 of a matrix whose rows are the tokens of a stream with one head: float32
/// [count, width], to the bit what decoding the whole matrix gives. Uses the memory of the calling thread alone.
void unpack_matrix_rows(const PackedSpan& span, std::int64_t first, std::int64_t count, std::int64_t width, float* out);

}  // namespace mla
