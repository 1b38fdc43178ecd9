// Packed codes to numbers, a few tokens at a time.
#pragma once

#include <c10/util/Half.h>

#include "core/ops/decode_attention.h"
#include "core/ops/row_products.h"

namespace mla {

/// Code number `index` of a little-endian bit string.
MLA_INLINE std::uint32_t code_at(const std::uint8_t* row, std::int64_t index, int bits) {
  const std::int64_t bit = index * bits;
  const std::uint32_t low = row[bit / 8], shift = static_cast<std::uint32_t>(bit % 8);
  const bool crosses = shift + static_cast<std::uint32_t>(bits) > 8;
  const std::uint32_t both = low | (crosses ? static_cast<std::uint32_t>(row[bit / 8 + 1]) << 8U : 0U);
  return (both >> shift) & ((1U << static_cast<std::uint32_t>(bits)) - 1U);
}

/// Eight codes, which fill BITS bytes.
template <int BITS>
MLA_INLINE void eight_codes(const std::uint8_t* bytes, Vector<float>& codes) {
  typedef std::int32_t Integers __attribute__((vector_size(32)));
  Integers integers;
  if constexpr (BITS == 8) {
    typedef std::uint8_t Bytes __attribute__((vector_size(8)));
    Bytes narrow;
    std::memcpy(&narrow, bytes, 8);
    integers = __builtin_convertvector(narrow, Integers);
  } else {
    std::int32_t word = 0;
    std::memcpy(&word, bytes, BITS);
    const Integers all = {word, word, word, word, word, word, word, word};
    const Integers shift = {0, BITS, 2 * BITS, 3 * BITS, 4 * BITS, 5 * BITS, 6 * BITS, 7 * BITS};
    integers = (all >> shift) & ((1 << BITS) - 1);
  }
  codes = __builtin_convertvector(integers, Vector<float>);
}

MLA_INLINE float parameter(const void* values, bool half, std::int64_t index) {
  return half ? static_cast<float>(static_cast<const c10::Half*>(values)[index])
              : static_cast<const float*>(values)[index];
}

/// What codes stand for; of numbers or vectors of them.
template <class Codes, class Parameters>
MLA_INLINE void apply_formula(PackedSpan::Formula formula, const Parameters& scale, const Parameters& zero,
                              Codes& codes) {
  if (formula == PackedSpan::kScaledPlusZero) {
    codes = codes * scale + zero;
  } else if (formula == PackedSpan::kLessZeroScaled) {
    codes = (codes - zero) * scale;
  } else {
    codes = (codes + zero) / scale;
  }
}

/// One row whose groups are `group` channels wide, all of one scale and zero.
template <int BITS>
MLA_INLINE void unpack_groups(const PackedSpan& span, const std::uint8_t* row, std::int64_t first_scale,
                              std::int64_t width, float* out) {
  for (std::int64_t begin = 0; begin < width; begin += span.group) {
    const std::int64_t index = first_scale + begin / span.group;
    const float scale = parameter(span.scale, span.half, index), zero = parameter(span.zero, span.half, index);
    const std::int64_t end = begin + span.group < width ? begin + span.group : width;
    std::int64_t c = begin;
    // Whole bytes: eight codes begin at a byte when the first one's index is a multiple of eight.
    for (; begin % 8 == 0 && c + 8 <= end; c += 8) {
      Vector<float> codes;
      eight_codes<BITS>(row + c / 8 * BITS, codes);
      apply_formula(span.formula, scale, zero, codes);
      store<float>(codes, out + c);
    }
    for (; c < end; ++c) {
      out[c] = static_cast<float>(code_at(row, c, BITS));
      apply_formula(span.formula, scale, zero, out[c]);
    }
  }
}

/// One row with a scale and a zero for each channel, given as float32.
template <int BITS>
MLA_INLINE void unpack_channels(const PackedSpan& span, const std::uint8_t* row, const float* scale, const float* zero,
                                std::int64_t width, float* out) {
  std::int64_t c = 0;
  for (; c + 8 <= width; c += 8) {
    Vector<float> codes, s, z;
    eight_codes<BITS>(row + c / 8 * BITS, codes);
    load(scale + c, s);
    load(zero + c, z);
    apply_formula(span.formula, s, z, codes);
    store<float>(codes, out + c);
  }
  for (; c < width; ++c) {
    out[c] = static_cast<float>(code_at(row, c, BITS));
    apply_formula(span.formula, scale[c], zero[c], out[c]);
  }
}

/// Tokens first … first + count - 1 of one head, to rows at a distance of `width`. `table` has room for 2 width
/// numbers.
template <int BITS>
MLA_INLINE void unpack_tokens(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                              std::int64_t width, float* table, float* out) {
  std::int64_t in_table = -1;
  for (std::int64_t t = first; t < first + count; ++t, out += width) {
    const std::uint8_t* row = span.codes + head * span.head_bytes + t * span.row_bytes;
    for (std::int64_t b = 0; b < span.row_bytes; b += kLine<std::uint8_t>)
      __builtin_prefetch(row + count * span.row_bytes + b);
    if (!span.across_tokens) {
      unpack_groups<BITS>(span, row, head * span.head_scales + t * (width / span.group), width, out);
      continue;
    }
    if (t / span.group != in_table) {
      in_table = t / span.group;
      const std::int64_t begin = head * span.head_scales + in_table * width;
      for (std::int64_t c = 0; c < width; ++c) {
        table[c] = parameter(span.scale, span.half, begin + c);
        table[width + c] = parameter(span.zero, span.half, begin + c);
      }
    }
    unpack_channels<BITS>(span, row, table, table + width, width, out);
  }
}

MLA_INLINE void unpack_span(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                            std::int64_t width, float* table, float* out) {
  switch (span.bits) {
    case 8:
      return unpack_tokens<8>(span, head, first, count, width, table, out);
    case 4:
      return unpack_tokens<4>(span, head, first, count, width, table, out);
    case 3:
      return unpack_tokens<3>(span, head, first, count, width, table, out);
    default:
      return unpack_tokens<2>(span, head, first, count, width, table, out);
  }
}

}  // namespace mla
