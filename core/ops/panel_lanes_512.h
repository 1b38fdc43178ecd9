// Sixteen lanes as one register of AVX-512; included with it switched on.
#pragma once

namespace mla {
namespace {

struct WideLanes {
  using Bytes = __m512i;
  using Ints = __m512i;
  using Floats = __m512;
  /// All lanes. The operations without a mask begin, in GCC's headers, with an undefined register, of which it warns.
  static constexpr __mmask16 kAll = 0xFFFF;

  static Bytes load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }
  static Bytes low_halves(Bytes both) { return _mm512_and_si512(both, _mm512_set1_epi8(15)); }
  static Bytes high_halves(Bytes both) { return low_halves(_mm512_srli_epi16(both, 4)); }
  /// The bits SHIFT and SHIFT + 1 of each byte, as its bits 4 and 5.
  template <int SHIFT>
  static Bytes bit_pairs(Bytes all) {
    const Bytes moved = SHIFT < 4 ? _mm512_slli_epi16(all, 4 - SHIFT) : _mm512_srli_epi16(all, SHIFT - 4);
    return _mm512_and_si512(moved, _mm512_set1_epi8(0x30));
  }
  static Bytes with_pairs(Bytes nibbles, Bytes pairs) { return _mm512_or_si512(nibbles, pairs); }

  static Ints broadcast_four(const std::int8_t* four) {
    std::int32_t word;
    __builtin_memcpy(&word, four, sizeof(word));
    return _mm512_set1_epi32(word);
  }
  static Ints ints(int number) { return _mm512_set1_epi32(number); }

  static Floats halves(const std::uint8_t* from) {
    return _mm512_maskz_cvtph_ps(kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Floats unsigned_bytes(const std::uint8_t* from) {
    return floats(_mm512_maskz_cvtepu8_epi32(kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static Floats signed_bytes(const std::uint8_t* from) {
    return floats(_mm512_maskz_cvtepi8_epi32(kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  }
  static Floats floats(Ints whole) { return _mm512_maskz_cvtepi32_ps(kAll, whole); }
  static Floats all(float number) { return _mm512_set1_ps(number); }
  static Floats product(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static Floats sum(Floats a, Floats b) { return _mm512_add_ps(a, b); }
  static Floats negative(Floats a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0F)); }
  static void store(float* to, Floats lanes) { _mm512_storeu_ps(to, lanes); }
};

}  // namespace
}  // namespace mla
