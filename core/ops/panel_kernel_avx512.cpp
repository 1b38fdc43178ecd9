// AVX-512 without the products of four bytes.
#include "core/ops/panel_kernel.h"
#include "core/ops/panel_layout.h"
#include "core/ops/vector_math.h"

#if MLA_GCC_ON_X86
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#include "core/ops/panel_kernel_body.h"
#include "core/ops/panel_lanes_512.h"

namespace mla {
namespace {

struct Avx512Lanes : WideLanes {
  /// Sums of two products fit 16 bits for codes up to 127; of larger ones the highest bit is taken apart.
  template <bool LARGE>
  static Ints dot(Ints sum, Bytes codes, const std::int8_t* four) {
    const __m512i x = broadcast_four(four), ones = _mm512_set1_epi16(1);
    if constexpr (LARGE) {
      const __m512i high = _mm512_and_si512(codes, _mm512_set1_epi8(static_cast<char>(0x80)));
      sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(high, x), ones));
      codes = _mm512_and_si512(codes, _mm512_set1_epi8(0x7F));
    }
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(codes, x), ones));
  }
};

}  // namespace

void avx512_panels(const PanelTask& task) { panels_of_kind<Avx512Lanes, 8>(task); }

}  // namespace mla
#pragma GCC pop_options
#else
namespace mla {
void avx512_panels(const PanelTask& task) { plain_panels(task); }
}  // namespace mla
#endif
