#include "core/ops/one_bit_rows.h"

#include <array>

#include "core/ops/unpack_rows.h"

namespace mla {
namespace {

typedef std::uint8_t EightBytes __attribute__((vector_size(8)));

/// The eight bits of a byte as the lowest bits of eight bytes.
constexpr std::array<std::uint64_t, 256> spread_bits() {
  std::array<std::uint64_t, 256> spread{};
  for (std::size_t byte = 0; byte < spread.size(); ++byte) {
    for (std::size_t bit = 0; bit < 8; ++bit) spread[byte] |= static_cast<std::uint64_t>(byte >> bit & 1U) << 8 * bit;
  }
  return spread;
}
constexpr std::array<std::uint64_t, 256> kSpreadBits = spread_bits();

MLA_INLINE void levels_of(const float* scales, bool centred, float* levels) {
  for (int group = 0; group < 2; ++group) {
    const float mean = centred ? scales[4 + group] : 0.0F;
    levels[2 * group] = mean - scales[group];
    levels[2 * group + 1] = mean + scales[group];
  }
  const float mean = centred ? scales[6] : 0.0F, low = mean - scales[2], high = mean + scales[2];
  levels[4] = low - scales[3];
  levels[5] = high - scales[3];
  levels[6] = low + scales[3];
  levels[7] = high + scales[3];
}

/// Eight elements: each one's level by its three bits.
MLA_INLINE void eight_elements(const Vector<float>& levels, std::uint64_t indices, Vector<float>& out) {
  EightBytes bytes;
  std::memcpy(&bytes, &indices, sizeof(bytes));
#ifdef __clang__  // has no shuffle by indices that are not constants
  for (int i = 0; i < 8; ++i) out[i] = levels[bytes[i]];
#else
  out = __builtin_shuffle(levels, __builtin_convertvector(bytes, Vector<std::int32_t>));
#endif
}

MLA_VECTORISED void rows_kernel(const OneBitSpan& span, std::int64_t first, std::int64_t count, float* out) {
  const std::int64_t columns = span.columns, row_bytes = (columns + 7) / 8,
                     blocks = (columns + span.block - 1) / span.block,
                     numbers = span.centred ? kCentredOneBitScales : kOneBitScales;
  for (std::int64_t r = 0; r < count; ++r) {
    const std::uint8_t *signs = span.signs + (first + r) * row_bytes, *seconds = span.seconds + (first + r) * row_bytes;
    float* to = out + r * columns;
    for (std::int64_t block = 0; block < blocks; ++block) {
      float scales[kCentredOneBitScales], table[8];
      for (std::int64_t i = 0; i < numbers; ++i)
        scales[i] = parameter(span.scales, span.half, ((first + r) * blocks + block) * numbers + i);
      levels_of(scales, span.centred, table);
      Vector<float> levels, eight;
      load(table, levels);
      const std::int64_t end = columns < (block + 1) * span.block ? columns : (block + 1) * span.block;
      for (std::int64_t c = block * span.block; c < end; c += 8) {
        const std::int64_t byte = c / 8;
        eight_elements(
            levels, kSpreadBits[signs[byte]] | kSpreadBits[seconds[byte]] << 1 | kSpreadBits[span.salient[byte]] << 2,
            eight);
        if (c + 8 <= columns) {
          store(eight, to + c);
        } else {
          for (std::int64_t i = 0; c + i < columns; ++i) to[c + i] = eight[i];
        }
      }
    }
  }
}

}  // namespace

void one_bit_levels(const float* scales, bool centred, float* levels) { levels_of(scales, centred, levels); }

void one_bit_rows(const OneBitSpan& span, std::int64_t first, std::int64_t count, float* out) {
  rows_kernel(span, first, count, out);
}

}  // namespace mla
