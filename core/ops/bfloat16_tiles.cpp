#include "core/ops/bfloat16_kernels.h"
#include "core/ops/bfloat16_panels.h"

#if MLA_GCC_ON_X86 && defined(__linux__)
#define MLA_HAS_TILES 1
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#define MLA_TILES [[gnu::target("arch=x86-64-v4,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")]]
#else
#define MLA_HAS_TILES 0
#endif

namespace mla {

#if MLA_HAS_TILES
namespace {

/// GCC 12's intrinsics do not say that they read memory: what was written there for them must not wait.
MLA_INLINE void written(const void* memory) { asm volatile("" ::"r"(memory) : "memory"); }

/// Sizes of the unit's eight registers, in the form that the processor reads.
struct alignas(64) TileSizes {
  std::uint8_t palette = 1, start = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Registers 0 to 3 hold 32 x 32 sums; 4 and 5 32 rows of a, 6 and 7 32 columns of b, 16 pairs of each.
struct TileKernel {
  static constexpr std::int64_t kRows = 32, kColumns = 32;
  static constexpr std::int64_t kTaskRows = 8, kTaskColumns = 8, kPairs = 512, kMultiple = 16;

  MLA_TILES TileKernel() {
    const TileSizes sizes;
    written(&sizes);
    _tile_loadconfig(&sizes);
  }
  MLA_TILES ~TileKernel() { _tile_release(); }
  TileKernel(const TileKernel&) = delete;
  TileKernel& operator=(const TileKernel&) = delete;

  /// The unit reads rows along `inner`: out [panels, pairs / 16, 32, 16].
  MLA_BFLOAT16 static void pack_rows(const bfloat16::Factor& f, std::int64_t panel, std::int64_t inner,
                                     std::int64_t pairs, std::int32_t* out) {
    std::int32_t* to = out + panel * kRows * pairs;
    for (std::int64_t k = 0; k < 2 * pairs; k += 32, to += 16 * kRows) {
      for (std::int64_t half = 0; half < kRows; half += 16) {
        const std::int64_t first = panel * kRows + half;
        __m512i rows[16];
        if (f.inner == 1) {
          const __mmask16 low = bfloat16::lanes(inner - k), high = bfloat16::lanes(inner - k - 16);
          for (std::int64_t i = 0; i < 16; ++i) {
            const float* from = f.data + (first + i) * f.outer + k;
            rows[i] = first + i < f.size
                          ? reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from + 16),
                                                                          _mm512_maskz_loadu_ps(low, from)))
                          : _mm512_setzero_si512();
          }
        } else {
          const __mmask16 there = bfloat16::lanes(f.size - first);
          for (std::int64_t i = 0; i < 16; ++i) {
            const std::int64_t at = k + 2 * i;
            const float* from = f.data + at * f.inner + first;
            const __m512i even = bfloat16::halves(_mm512_maskz_loadu_ps(at < inner ? there : __mmask16(0), from)),
                          odd = bfloat16::halves(
                              _mm512_maskz_loadu_ps(at + 1 < inner ? there : __mmask16(0), from + f.inner));
            rows[i] = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
          }
          bfloat16::transpose(rows);
        }
        for (std::int64_t i = 0; i < 16; ++i) _mm512_storeu_si512(to + (half + i) * 16, rows[i]);
      }
    }
  }

  /// c = a b, or c + a b, for panels a [pairs / 16, 32, 16] and b [pairs, 32].
  MLA_TILES void multiply(const std::int32_t* a, const std::int32_t* b, std::int64_t pairs, const bfloat16::Target& c,
                          bool add) const {
    alignas(64) float part[kRows * kColumns];
    const bool whole = c.rows >= kRows && c.columns >= kColumns;
    float* to = whole ? c.data : part;
    const std::int64_t stride = whole ? c.stride : kColumns;
    const std::int64_t rows = std::min(kRows, c.rows), columns = std::min(kColumns, c.columns);
    const auto bytes = static_cast<std::size_t>(columns) * sizeof(float);
    if (add) {
      for (std::int64_t i = 0; !whole && i < rows; ++i) std::memcpy(part + i * kColumns, c.data + i * c.stride, bytes);
      written(to);
      _tile_loadd(0, to, stride * 4);
      _tile_loadd(1, to + 16, stride * 4);
      _tile_loadd(2, to + 16 * stride, stride * 4);
      _tile_loadd(3, to + 16 * stride + 16, stride * 4);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (std::int64_t p = 0; p < pairs; p += 16, a += kRows * 16, b += 16 * kColumns) {
      _tile_loadd(4, a, 64);
      _tile_loadd(6, b, kColumns * 4);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, b + 16, kColumns * 4);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, a + 16 * 16, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, to, stride * 4);
    _tile_stored(1, to + 16, stride * 4);
    _tile_stored(2, to + 16 * stride, stride * 4);
    _tile_stored(3, to + 16 * stride + 16, stride * 4);
    for (std::int64_t i = 0; !whole && i < rows; ++i) std::memcpy(c.data + i * c.stride, part + i * kColumns, bytes);
  }
};

/// Linux hands the unit's registers, 8 kB a thread, to programs that ask for them.
bool tiles_are_granted() {
  constexpr int kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

}  // namespace

bool has_bfloat16_tiles() {
  static const bool has = has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-bf16") &&
                          tiles_are_granted();
  return has && kernels_are_on();
}

void bfloat16_tile_product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, bool add) {
  bfloat16::panel_product<TileKernel>(a, b, out, add);
}

#else

bool has_bfloat16_tiles() { return false; }
void bfloat16_tile_product(const at::Tensor&, const at::Tensor&, const at::Tensor&, bool) {
  expects(false, "a kernel runs where its processor is");
}

#endif

}  // namespace mla
