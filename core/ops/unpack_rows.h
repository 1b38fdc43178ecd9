// Packed codes to numbers, a few tokens at a time.
#pragma once

#include <c10/util/Half.h>

#include "core/ops/decode_attention.h"
#include "core/ops/vectors.h"

namespace mla {

/// Code number `index` of a little-endian bit string.
MLA_INLINE std::uint32_t code_at(const std::uint8_t* row, std::int64_t index, int bits) {
  const std::int64_t bit = index * bits;
  const std::uint32_t low = row[bit / 8], shift = static_cast<std::uint32_t>(bit % 8);
  const bool crosses = shift + static_cast<std::uint32_t>(bits) > 8;
  const std::uint32_t both = low | (crosses ? static_cast<std::uint32_t>(row[bit / 8 + 1]) << 8U : 0U);
  return (both >> shift) & ((1U << static_cast<std::uint32_t>(bits)) - 1U);
}

/// Bytes of a row as a number.
template <class Word, int BYTES>
MLA_INLINE Word word_at(const std::uint8_t* bytes) {
  Word word = 0;
  std::memcpy(&word, bytes, BYTES);
  return word;
}

/// Lanes of whole words whose lowest bits are the codes of a vector; eight codes of less than eight bits fill BITS
/// bytes.
template <int BITS>
MLA_INLINE void code_lanes(const std::uint8_t* bytes, Vector<std::int32_t>& lanes) {
  constexpr Vector<std::int32_t> kShift = {0, BITS, 2 * BITS, 3 * BITS, 4 * BITS, 5 * BITS, 6 * BITS, 7 * BITS};
  lanes = (word_at<std::int32_t, BITS>(bytes) + Vector<std::int32_t>{}) >> kShift;
}
template <int BITS>
MLA_INLINE void code_lanes(const std::uint8_t* bytes, Vector<std::int32_t, 64>& lanes) {
  using Wide = Vector<std::int32_t, 64>;
  // A word of 32 bits holds all sixteen codes of two bits, and eight of three or four.
  constexpr int B = BITS, S = BITS == 2 ? 8 * B : 0;
  // clang-format off
  constexpr Wide kShift = {0, B,     2 * B,     3 * B,     4 * B,     5 * B,     6 * B,     7 * B,
                           S, S + B, S + 2 * B, S + 3 * B, S + 4 * B, S + 5 * B, S + 6 * B, S + 7 * B};
  // clang-format on
  if constexpr (BITS == 2) {
    lanes = (word_at<std::int32_t, 4>(bytes) + Wide{}) >> kShift;
  } else {
    std::uint64_t both = word_at<std::uint64_t, 2 * BITS>(bytes);
    if constexpr (BITS == 3) both = (both & 0xFFFFFFU) | (both >> 24U << 32U);
    const Vector<std::uint64_t, 64> words = both + Vector<std::uint64_t, 64>{};
    Wide pairs;
    std::memcpy(&pairs, &words, sizeof(pairs));
    lanes = __builtin_shufflevector(pairs, pairs, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1) >> kShift;
  }
}

template <int BITS, int BYTES>
MLA_INLINE void vector_of_codes(const std::uint8_t* bytes, Vector<float, BYTES>& codes) {
  Vector<std::int32_t, BYTES> lanes;
  code_lanes<BITS>(bytes, lanes);
  codes = __builtin_convertvector(lanes & ((1 << BITS) - 1), Vector<float, BYTES>);
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
  template <PackedSpan::Formula FORMULA, class Codes>
  MLA_INLINE void apply(std::int64_t channel, Codes& codes) const {
    Codes s, z;
    load(scale + channel, s);
    load(zero + channel, z);
    apply_formula<FORMULA>(s, z, codes);
  }
};

/// Whole vectors from channel c on, which begins a byte; returns the channel behind them.
template <int BITS, int BYTES, PackedSpan::Formula FORMULA, class Parameters>
MLA_INLINE std::int64_t unpack_vectors(const std::uint8_t* row, std::int64_t c, std::int64_t end,
                                       const Parameters& parameters, float* out) {
  for (; c + kLanes<float, BYTES> <= end; c += kLanes<float, BYTES>) {
    Vector<float, BYTES> codes;
    vector_of_codes<BITS, BYTES>(row + c / 8 * BITS, codes);
    parameters.template apply<FORMULA>(c, codes);
    store<float>(codes, out + c);
  }
  return c;
}

/// Channels begin … end - 1 of a row.
template <int BITS, int BYTES, PackedSpan::Formula FORMULA, class Parameters>
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
  } else if (begin % 8 == 0) {
    c = unpack_vectors<BITS, BYTES, FORMULA>(row, c, end, parameters, out);
    if constexpr (BYTES > 32) c = unpack_vectors<BITS, 32, FORMULA>(row, c, end, parameters, out);
  }
  for (; c < end; ++c) {
    out[c] = static_cast<float>(code_at(row, c, BITS));
    parameters.template apply<FORMULA>(c, out[c]);
  }
}

/// One row whose groups are `group` channels wide; their scales and zeros begin at `first`.
template <int BITS, int BYTES, PackedSpan::Formula FORMULA>
MLA_INLINE void unpack_groups(const PackedSpan& span, const std::uint8_t* row, std::int64_t first, std::int64_t width,
                              float* out) {
  const std::int64_t group = span.group;
  for (std::int64_t begin = 0; begin < width; begin += group, ++first) {
    const GroupParameters parameters{parameter(span.scale, span.half, first), parameter(span.zero, span.half, first)};
    unpack_channels<BITS, BYTES, FORMULA>(row, begin, begin + group < width ? begin + group : width, parameters, out);
  }
}

/// Tokens first … first + count - 1 of one head, to rows at a distance of `width`. `table` has room for 2 width
/// numbers.
template <int BITS, int BYTES, PackedSpan::Formula FORMULA>
MLA_INLINE void unpack_tokens(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                              std::int64_t width, float* table, float* out) {
  const std::int64_t groups = span.across_tokens ? 0 : width / span.group;
  std::int64_t in_table = -1;
  for (std::int64_t t = first; t < first + count; ++t, out += width) {
    const std::uint8_t* row = span.codes + head * span.head_bytes + t * span.row_bytes;
    for (std::int64_t b = 0; b < span.row_bytes; b += kLine<std::uint8_t>)
      __builtin_prefetch(row + count * span.row_bytes + b);
    if (!span.across_tokens) {
      unpack_groups<BITS, BYTES, FORMULA>(span, row, head * span.head_scales + t * groups, width, out);
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
    unpack_channels<BITS, BYTES, FORMULA>(row, 0, width, ChannelParameters{table, table + width}, out);
  }
}

template <int BITS, int BYTES>
MLA_INLINE void unpack_bits(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                            std::int64_t width, float* table, float* out) {
  switch (span.formula) {
    case PackedSpan::kScaledPlusZero:
      return unpack_tokens<BITS, BYTES, PackedSpan::kScaledPlusZero>(span, head, first, count, width, table, out);
    case PackedSpan::kLessZeroScaled:
      return unpack_tokens<BITS, BYTES, PackedSpan::kLessZeroScaled>(span, head, first, count, width, table, out);
    case PackedSpan::kPlusZeroDivided:
      return unpack_tokens<BITS, BYTES, PackedSpan::kPlusZeroDivided>(span, head, first, count, width, table, out);
  }
}

template <int BYTES>
MLA_INLINE void unpack_span(const PackedSpan& span, std::int64_t head, std::int64_t first, std::int64_t count,
                            std::int64_t width, float* table, float* out) {
  switch (span.bits) {
    case 8:
      return unpack_bits<8, BYTES>(span, head, first, count, width, table, out);
    case 4:
      return unpack_bits<4, BYTES>(span, head, first, count, width, table, out);
    case 3:
      return unpack_bits<3, BYTES>(span, head, first, count, width, table, out);
    default:
      return unpack_bits<2, BYTES>(span, head, first, count, width, table, out);
  }
}

}  // namespace mla
