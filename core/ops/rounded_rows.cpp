#include "core/ops/rounded_rows.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <bit>
#include <cstring>
#include <limits>

#include "core/ops/block_panels.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

constexpr float kLargestCode = 127.0F;
constexpr int kGroup = static_cast<int>(kGroupColumns), kHalfGroup = kGroup / 2;

/// The largest |x| of 32, as its bits, which are in the order of the numbers; NaN is above infinity.
MLA_INLINE std::uint32_t largest_bits(const float* x) {
  std::uint32_t most[kHalfGroup] = {};
  for (int i = 0; i < kGroup; i += kHalfGroup) {
    for (int j = 0; j < kHalfGroup; ++j) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i + j]) & 0x7FFFFFFFU;
      most[j] = bits > most[j] ? bits : most[j];
    }
  }
  std::uint32_t all = 0;
  for (int j = 0; j < kHalfGroup; ++j) all = most[j] > all ? most[j] : all;
  return all;
}

/// The nearest whole numbers, ties to even, and their sums.
MLA_INLINE void round_group(const float* x, float inverse, std::int8_t* codes, std::int32_t* sums) {
  constexpr float kToInteger = 12582912.0F;  // 1.5 * 2^23: adding it rounds to whole numbers
  for (int half = 0; half < 2; ++half) {
    std::int32_t sum = 0;
    for (int i = half * kHalfGroup; i < (half + 1) * kHalfGroup; ++i) {
      const float shifted = x[i] * inverse + kToInteger;
      const auto code = static_cast<std::int32_t>(shifted - kToInteger);
      codes[i] = static_cast<std::int8_t>(code);
      sum += code;
    }
    sums[half] = sum;
  }
}

MLA_VECTORISED void round_row(const float* x, std::int64_t columns, std::int8_t* codes, float* scales, float* offsets,
                              std::int32_t* sums) {
  for (std::int64_t begin = 0; begin < columns; begin += kGroup, codes += kGroup, sums += 2) {
    float filled[kGroup] = {};
    const float* from = x + begin;
    if (begin + kGroup > columns) {
      std::memcpy(filled, from, static_cast<std::size_t>(columns - begin) * sizeof(float));
      from = filled;
    }
    const std::uint32_t bits = largest_bits(from);
    if (bits >= 0x7F800000U) {
      std::memset(codes, 0, kGroup);
      sums[0] = sums[1] = 0;
      *scales++ = *offsets++ = std::numeric_limits<float>::quiet_NaN();
      continue;
    }
    const float scale = std::bit_cast<float>(bits) / kLargestCode;
    round_group(from, scale > 0 ? 1 / scale : 0, codes, sums);
    *scales++ = scale;
    *offsets++ = scale * static_cast<float>(sums[0] + sums[1]);
  }
}

}  // namespace

RoundedRows round_rows(const at::Tensor& x) {
  const std::int64_t columns = x.size(-1), groups = (columns + kGroup - 1) / kGroup;
  RoundedRows to{x.numel() / columns, groups, {}, {}, {}, {}};
  const auto count = static_cast<std::size_t>(to.rows * groups);
  to.codes.resize(count * kGroup);
  to.scales.resize(count);
  to.offsets.resize(count);
  to.sums.resize(2 * count);
  const float* from = x.const_data_ptr<float>();
  for_rows(to.rows, 4 * columns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t first = row * groups;
      round_row(from + row * columns, columns, to.codes.data() + first * kGroup, to.scales.data() + first,
                to.offsets.data() + first, to.sums.data() + 2 * first);
    }
  });
  return to;
}

at::Tensor rounded_values(const at::Tensor& x) {
  const std::int64_t columns = x.size(-1), groups = (columns + kGroup - 1) / kGroup, filled = groups * kGroup;
  const at::Tensor padded = filled == columns ? x : at::constant_pad_nd(x, {0, filled - columns});
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.back() = groups;
  sizes.push_back(kGroup);
  const at::Tensor grouped = padded.reshape(sizes), scale = grouped.abs().amax(-1, true) / kLargestCode;
  const at::Tensor inverse = at::where(scale > 0, scale.reciprocal(), at::zeros_like(scale));
  return (at::round(grouped * inverse) * scale).reshape(padded.sizes()).narrow(-1, 0, columns);
}

}  // namespace mla
