// AVX2: sixteen lanes as two registers.
#include "core/ops/panel_kernel.h"
#include "core/ops/panel_layout.h"
#include "core/ops/vector_math.h"

#if MLA_GCC_ON_X86
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#include "core/ops/panel_kernel_body.h"

namespace mla {
namespace {

struct Avx2Lanes {
  struct Bytes {
    __m256i a, b;
  };
  using Ints = Bytes;
  struct Floats {
    __m256 a, b;
  };

  static __m256i half(const std::uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static __m128i eighth(const std::uint8_t* from) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)); }
  static Bytes load(const std::uint8_t* from) { return {half(from), half(from + 32)}; }
  static Bytes masked(Bytes bytes, int mask) {
    const __m256i all = _mm256_set1_epi8(static_cast<char>(mask));
    return {_mm256_and_si256(bytes.a, all), _mm256_and_si256(bytes.b, all)};
  }
  static Bytes low_halves(Bytes both) { return masked(both, 15); }
  static Bytes high_halves(Bytes both) {
    return low_halves({_mm256_srli_epi16(both.a, 4), _mm256_srli_epi16(both.b, 4)});
  }
  template <int SHIFT>
  static Bytes bit_pairs(Bytes all) {
    if constexpr (SHIFT < 4) {
      return masked({_mm256_slli_epi16(all.a, 4 - SHIFT), _mm256_slli_epi16(all.b, 4 - SHIFT)}, 0x30);
    } else {
      return masked({_mm256_srli_epi16(all.a, SHIFT - 4), _mm256_srli_epi16(all.b, SHIFT - 4)}, 0x30);
    }
  }
  static Bytes with_pairs(Bytes nibbles, Bytes pairs) {
    return {_mm256_or_si256(nibbles.a, pairs.a), _mm256_or_si256(nibbles.b, pairs.b)};
  }

  static Ints ints(int number) { return {_mm256_set1_epi32(number), _mm256_set1_epi32(number)}; }
  static __m256i added(__m256i sum, __m256i codes, __m256i x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1)));
  }
  /// Sums of two products fit 16 bits for codes up to 127; of larger ones the highest bit is taken apart.
  template <bool LARGE>
  static Ints dot(Ints sum, Bytes codes, const std::int8_t* four) {
    std::int32_t word;
    __builtin_memcpy(&word, four, sizeof(word));
    const __m256i x = _mm256_set1_epi32(word);
    if constexpr (LARGE) {
      const Bytes high = masked(codes, 0x80);
      sum = {added(sum.a, high.a, x), added(sum.b, high.b, x)};
      codes = masked(codes, 0x7F);
    }
    return {added(sum.a, codes.a, x), added(sum.b, codes.b, x)};
  }

  static Floats halves(const std::uint8_t* from) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 16)))};
  }
  static Floats unsigned_bytes(const std::uint8_t* from) {
    return floats({_mm256_cvtepu8_epi32(eighth(from)), _mm256_cvtepu8_epi32(eighth(from + 8))});
  }
  static Floats signed_bytes(const std::uint8_t* from) {
    return floats({_mm256_cvtepi8_epi32(eighth(from)), _mm256_cvtepi8_epi32(eighth(from + 8))});
  }
  static Floats floats(Ints whole) { return {_mm256_cvtepi32_ps(whole.a), _mm256_cvtepi32_ps(whole.b)}; }
  static Floats all(float number) { return {_mm256_set1_ps(number), _mm256_set1_ps(number)}; }
  static Floats product(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static Floats sum(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static Floats negative(Floats x) {
    const __m256 sign = _mm256_set1_ps(-0.0F);
    return {_mm256_xor_ps(x.a, sign), _mm256_xor_ps(x.b, sign)};
  }
  static void store(float* to, Floats lanes) {
    _mm256_storeu_ps(to, lanes.a);
    _mm256_storeu_ps(to + 8, lanes.b);
  }
};

}  // namespace

void avx2_panels(const PanelTask& task) { panels_of_kind<Avx2Lanes, 2>(task); }

}  // namespace mla
#pragma GCC pop_options
#else
namespace mla {
void avx2_panels(const PanelTask& task) { plain_panels(task); }
}  // namespace mla
#endif
