// Rows of a matrix of one-bit weights as numbers.
#pragma once

#include <cstdint>

namespace mla {

/// Numbers that the elements of one row and block share: the scale of small elements, of large ones, of those in
/// salient columns and of their residual; then, where groups are centred, the means of the first three.
constexpr std::int64_t kOneBitScales = 4, kCentredOneBitScales = 7;

/// A matrix in memory, bits of a row from the lowest of its first byte on. An element has a sign, and a second bit: in
/// a salient column the sign of its residual, elsewhere whether it is a large one.
struct OneBitSpan {
  const std::uint8_t *signs = nullptr, *seconds = nullptr;  ///< [rows, ceil(columns / 8)]
  const std::uint8_t* salient = nullptr;                    ///< [ceil(columns / 8)], one bit a column
  const void* scales = nullptr;                             ///< [rows, blocks, 4 or 7], float32 or float16
  bool half = false, centred = false;
  std::int64_t columns = 0, block = 8;  ///< columns of a block are a multiple of 8; the last one may be narrower
};

/// The eight values that an element may have, by sign + 2 second + 4 salient.
void one_bit_levels(const float* scales, bool centred, float* levels);

/// Rows first … first + count - 1: float32 [count, columns].
void one_bit_rows(const OneBitSpan& span, std::int64_t first, std::int64_t count, float* out);

}  // namespace mla
