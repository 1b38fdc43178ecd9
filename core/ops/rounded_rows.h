// Rows rounded to 8-bit codes, as products with blocks of codes take them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mla {

/// Of each 32 columns the codes round(x / scale) in -127 … 127 with scale = max |x| / 127; rows that are not a multiple
/// of 32 are filled up with zeros. Where a number is not finite, the scale is NaN.
struct RoundedRows {
  std::int64_t rows = 0, groups = 0;
  std::vector<std::int8_t> codes;  ///< [rows, groups, 32]
  std::vector<float> scales;       ///< [rows, groups]
  std::vector<float> offsets;      ///< [rows, groups]: scale * sum of the codes
  std::vector<std::int32_t> sums;  ///< [rows, groups, 2]: of the first and the last 16 codes
};

/// x float32 [..., columns], contiguous on the CPU.
RoundedRows round_rows(const at::Tensor& x);

/// The numbers that those codes stand for, in x's shape, by LibTorch's operations: on any device.
at::Tensor rounded_values(const at::Tensor& x);

}  // namespace mla
