// Keys that are not cached as they are multiplied: made of a tile of cached rows, and rotated, when they are read.
#pragma once

#include <cstdint>

#include "core/ops/decode_attention.h"
#include "core/ops/row_products.h"

namespace mla {

/// out [count, memory.width] = the first `count` rows times the map of memory `index`, plus its bias.
void expand_rows(const Rows<float>& rows, const DecodeMemory& memory, std::int64_t index, std::int64_t count,
                 float* out);
void expand_rows(const Rows<double>& rows, const DecodeMemory& memory, std::int64_t index, std::int64_t count,
                 double* out);

/// out [count, memory.width] = the first `count` rows, rotated as tokens from `position` on.
void turn_rows(const Rows<float>& rows, const DecodeMemory& memory, std::int64_t position, std::int64_t count,
               float* out);
void turn_rows(const Rows<double>& rows, const DecodeMemory& memory, std::int64_t position, std::int64_t count,
               double* out);

}  // namespace mla
