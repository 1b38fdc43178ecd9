#include "core/ops/bfloat16_kernels.h"
#include "core/ops/bfloat16_panels.h"

namespace mla {

#if MLA_GCC_ON_X86
namespace {

struct RegisterKernel {
  /// A register tile: 28 registers hold its sums, two the columns of b, one or two an element of a for all columns.
  static constexpr std::int64_t kRows = 14, kColumns = 32;
  static constexpr std::int64_t kTaskRows = 16, kTaskColumns = 12, kPairs = 256, kMultiple = 1;

  static void pack_rows(const bfloat16::Factor& f, std::int64_t panel, std::int64_t inner, std::int64_t pairs,
                        std::int32_t* out) {
    bfloat16::pack<kRows>(f, panel, inner, pairs, out);
  }

  /// c = a b, or c + a b, for panels a [pairs, 14] and b [pairs, 32].
  MLA_BFLOAT16 void multiply(const std::int32_t* a, const std::int32_t* b, std::int64_t pairs,
                             const bfloat16::Target& c, bool add) const {
    __m512 sums[kRows][2];
#pragma GCC unroll 14
    for (std::int64_t i = 0; i < kRows; ++i) sums[i][0] = sums[i][1] = _mm512_setzero_ps();
    for (std::int64_t p = 0; p < pairs; ++p) {
      const auto left = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + p * kColumns)),
                 right = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + p * kColumns + 16));
#pragma GCC unroll 14
      for (std::int64_t i = 0; i < kRows; ++i) {
        const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(a[p * kRows + i]));
        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], x, left);
        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], x, right);
      }
    }
    const __mmask16 masks[2] = {bfloat16::lanes(c.columns), bfloat16::lanes(c.columns - 16)};
#pragma GCC unroll 14
    for (std::int64_t i = 0; i < kRows; ++i) {
      if (i >= c.rows) break;
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        float* to = c.data + i * c.stride + 16 * half;
        if (add) sums[i][half] = _mm512_add_ps(sums[i][half], _mm512_maskz_loadu_ps(masks[half], to));
        _mm512_mask_storeu_ps(to, masks[half], sums[i][half]);
      }
    }
  }
};

}  // namespace

bool has_bfloat16_registers() {
  static const bool has = has_avx512() && __builtin_cpu_supports("avx512bf16");
  return has && kernels_are_on();
}

void bfloat16_register_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, bool add) {
  bfloat16::panel_product<RegisterKernel>(a, b, out, add);
}

#else

bool has_bfloat16_registers() { return false; }
void bfloat16_register_product(const at::Tensor&, const at::Tensor&, const at::Tensor&, bool) {
  expects(false, "a kernel runs where its processor is");
}

#endif

}  // namespace mla
