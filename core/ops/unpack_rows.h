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

/// Eight codes of less than eight bits, which fill BITS bytes.
template <int BITS>
MLA_INLINE void eight_codes(const std::uint8_t* bytes, Vector<float>& codes) {
  typedef std::int32_t Integers __attribute__((vector_size(32)));
  std::int32_t word = 0;
  std::memcpy(&word, bytes, BITS);
  const Integers all = {word, word, word, word, word, word, word, word};
  const Integers shift = {0, BITS, 2 * BITS, 3 * BITS, 4 * BITS, 5 * BITS, 6 * BITS, 7 * BITS};
  codes = __builtin_convertvector((all >> shift) & ((1 << BITS) - 1), Vector<float>);
}

MLA_INLINE float parameter(const void* values, bool half, std::int64_t index) {
  return half ? static_cast<float>(static_cast<const c10::Half*>(values)[index])
              : static_cast<const float*>(values)[index];
}

/// What codes stand for; of numbers or vectors of them.
template <PackedSpan::Formula FORMULA, class Codes, class Parameters>
MLA_INLINE void apply_formula(const Parameters& scale, const Parameters& zero, Codes& codes) {
  if constexpr (FORMULA == PackedSpan::kScaledPlusZero) {
    codes = codes * scale + zero;
  } else if constexpr (FORMULA == PackedSpan::kLessZeroScaled) {
    codes = (codes - zero) * scale;
  } else {
    codes = (codes + zero) / scale;
  }
}

/// One scale and zero for all channels of a group.
struct GroupParameters {
  float scale, zero;
  template <PackedSpan::Formula FORMULA, class Codes>
  MLA_INLINE void apply(std::int64_t, Codes& codes) const {
    apply_formula<FORMULA>(scale, zero, codes);
  }
};
/// A scale and a zero for each channel.
struct ChannelParameters {
  const float *scale, *zero;
  template <PackedSpan::Formula FORMULA>
  MLA_INLINE void apply(std::int64_t channel, float& code) const {
    apply_formula<FORMULA>(scale[channel], zero[channel], code);
  }
  template <PackedSpan::Formula FORMULA>
  MLA_INLINE void apply(std::int64_t channel, Vector<float>& codes) const {
    Vector<float> s, z;
    load(scale + channel, s);
    load(zero + channel, z);
    apply_formula<FORMULA>(s, z, codes);
  }
};

/// Channels begin … end - 1 of a row.
template <int BITS, PackedSpan::Formula FORMULA, class Parameters>
MLA_INLINE void unpack_channels(const std::uint8_t* row, std::int64_t begin, std::int64_t end,
                                const Parameters& parameters, float* out) {
  std::int64_t c = begin;
  if constexpr (BITS == 8) {  // compilers widen bytes better than vectors of them
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      float number = static_cast<float>(row[i]);
      parameters.template apply<FORMULA>(i, number);
      out[i] = number;
    }
    return;
  } else if (begin % 8 == 0) {  // eight codes begin at a byte
    for (const std::uint8_t* bytes = row + begin / 8 * BITS; c + 8 <= end; c += 8, bytes += BITS) {
      Vector<float> codes;
      eight_codes<BITS>(bytes, codes);
      parameters.template apply<FORMULA>(c, codes);
      store<float>(codes, out + c);
    }
  }
  for (; c < end; ++c) {
    out[c] = static_cast<float>(code_at(row, c, BITS));
    parameters.template apply<FORMULA>(c, out[c]);
  }
}

/// One row whose groups are `group` channels wide; their scales and zeros begin at `first`.
template <int BITS, PackedSpan::Formula FORMULA>
MLA_INLINE void unpack_groups(const PackedSpan& span, const std::uint8_t* row, std::int64_t first, std::int64_t width,
                              float* out) {
  const std::int64_t group = span.group;
  for (std::int64_t begin = 0; begin < width; begin += group, ++first) {
    const GroupParameters parameters{parameter(span.scale, span.half, first), parameter(span.zero, span.half, first)};
    unpack_channels<BITS, FORMULA>(row, begin, begin + group < width ? begin + group : width, parameters, out);
  }
}

/// Tokens first … first + count - 1 of one head, to rows at a distance of `width`. `table` has room for 2 width
/// numbers.
template <int BITS, PackedSpan::Formula FORMULA>
MLA_INLINE void unpack_tokens(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                              std::int64_t width, float* table, float* out) {
  const std::int64_t groups = span.across_tokens ? 0 : width / span.group;
  std::int64_t in_table = -1;
  for (std::int64_t t = first; t < first + count; ++t, out += width) {
    const std::uint8_t* row = span.codes + head * span.head_bytes + t * span.row_bytes;
    for (std::int64_t b = 0; b < span.row_bytes; b += kLine<std::uint8_t>)
      __builtin_prefetch(row + count * span.row_bytes + b);
    if (!span.across_tokens) {
      unpack_groups<BITS, FORMULA>(span, row, head * span.head_scales + t * groups, width, out);
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
    unpack_channels<BITS, FORMULA>(row, 0, width, ChannelParameters{table, table + width}, out);
  }
}

template <int BITS>
MLA_INLINE void unpack_bits(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                            std::int64_t width, float* table, float* out) {
  switch (span.formula) {
    case PackedSpan::kScaledPlusZero:
      return unpack_tokens<BITS, PackedSpan::kScaledPlusZero>(span, head, first, count, width, table, out);
    case PackedSpan::kLessZeroScaled:
      return unpack_tokens<BITS, PackedSpan::kLessZeroScaled>(span, head, first, count, width, table, out);
    case PackedSpan::kPlusZeroDivided:
      return unpack_tokens<BITS, PackedSpan::kPlusZeroDivided>(span, head, first, count, width, table, out);
  }
}

MLA_INLINE void unpack_span(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                            std::int64_t width, float* table, float* out) {
  switch (span.bits) {
    case 8:
      return unpack_bits<8>(span, head, first, count, width, table, out);
    case 4:
      return unpack_bits<4>(span, head, first, count, width, table, out);
    case 3:
      return unpack_bits<3>(span, head, first, count, width, table, out);
    default:
      return unpack_bits<2>(span, head, first, count, width, table, out);
  }
}

}  // namespace mla
