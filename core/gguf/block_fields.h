// Fields of blocks: numbers at any address, little-endian.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mla::gguf {

template <class Number>
Number load(const std::byte* at) {
  static_assert(std::endian::native == std::endian::little, "files are little-endian");
  Number number;
  std::memcpy(&number, at, sizeof number);
  return number;
}

inline int byte_at(const std::byte* at, int index) { return std::to_integer<int>(at[index]); }
inline int signed_byte_at(const std::byte* at, int index) { return static_cast<std::int8_t>(byte_at(at, index)); }

/// IEEE 754 binary16, exactly: subnormal numbers, infinities and NaN included.
inline float load_half(const std::byte* at) {
  const std::uint32_t bits = load<std::uint16_t>(at), sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU, fraction = bits & 0x3FFU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 0x1FU ? 0xFFU : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

}  // namespace mla::gguf
