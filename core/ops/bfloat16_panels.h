// Factors of a product as the kernels for bfloat16 read them: rounded, and packed into panels.
#pragma once

#include "core/ops/vector_math.h"

#if MLA_GCC_ON_X86
#include <ATen/Functions.h>
#include <ATen/core/Tensor.h>
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

// GCC 12 takes the registers that its own header leaves undefined, where every lane is written, for a mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define MLA_BFLOAT16 [[gnu::target("arch=x86-64-v4,avx512bf16,prefer-vector-width=512")]]

namespace mla::bfloat16 {

/// A factor in memory: element (i, k), with k along `inner`, lies at data[i * outer + k * inner]; one of the two is 1.
struct Factor {
  const float* data;
  std::int64_t outer, inner, size;  ///< size: how many i there are
};

/// Masks the lanes below `count`.
MLA_BFLOAT16 MLA_INLINE __mmask16 lanes(std::int64_t count) {
  return count >= 16 ? __mmask16(0xFFFF) : count <= 0 ? __mmask16(0) : __mmask16((1U << count) - 1U);
}

/// A 16 x 16 matrix of 32-bit elements, one row a register, becomes its transpose.
MLA_BFLOAT16 MLA_INLINE void transpose(__m512i (&rows)[16]) {
  __m512i t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
    rows[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
    rows[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
    rows[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xDD);
    t[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xDD);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    rows[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xDD);
    rows[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xDD);
  }
}

/// Packs elements first … first + WIDTH - 1 of a factor, zeros where it ends: out [pairs, WIDTH], each element two
/// neighbours along `inner`, which lie side by side in memory. `pairs` is (inner + 1) / 2, or that rounded up to 16.
template <std::int64_t WIDTH>
MLA_BFLOAT16 inline void pack_along(const Factor& f, std::int64_t first, std::int64_t inner, std::int64_t pairs,
                                    std::int32_t* out) {
  for (std::int64_t j = 0; j < WIDTH; j += 16) {
    const std::int64_t there = std::min<std::int64_t>(16, f.size - first - j);
    const __mmask16 stored = lanes(WIDTH - j);
    for (std::int64_t k = 0; k < inner; k += 32) {
      const __mmask16 low = lanes(inner - k), high = lanes(inner - k - 16);
      __m512i rows[16];
#pragma GCC unroll 16
      for (std::int64_t i = 0; i < 16; ++i) {
        const float* from = f.data + (first + j + i) * f.outer + k;
        rows[i] = i < there ? reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, from + 16),
                                                                            _mm512_maskz_loadu_ps(low, from)))
                            : _mm512_setzero_si512();
      }
      transpose(rows);
      const std::int64_t some = std::min<std::int64_t>(16, pairs - k / 2);
      std::int32_t* to = out + k / 2 * WIDTH + j;
#pragma GCC unroll 16
      for (std::int64_t i = 0; i < 16; ++i) {
        if (i < some) _mm512_mask_storeu_epi32(to + i * WIDTH, stored, rows[i]);
      }
    }
  }
}

/// Each number rounded to bfloat16, in the low half of its lane.
MLA_BFLOAT16 MLA_INLINE __m512i halves(__m512 x) {
  return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}

/// The same for a factor whose neighbours in memory are neighbours along the other dimension.
template <std::int64_t WIDTH>
MLA_BFLOAT16 inline void pack_across(const Factor& f, std::int64_t first, std::int64_t inner, std::int64_t pairs,
                                     std::int32_t* out) {
  for (std::int64_t k = 0; k < 2 * pairs; k += 2) {
    const float* from = f.data + k * f.inner + first;
    for (std::int64_t j = 0; j < WIDTH; j += 16) {
      const __mmask16 stored = lanes(std::min(WIDTH, f.size - first) - j), there = k < inner ? stored : __mmask16(0),
                      second = k + 1 < inner ? stored : __mmask16(0);
      const __m512i low = halves(_mm512_maskz_loadu_ps(there, from + j)),
                    high = halves(_mm512_maskz_loadu_ps(second, from + f.inner + j));
      _mm512_mask_storeu_epi32(out + k / 2 * WIDTH + j, lanes(WIDTH - j),
                               _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
}

/// Packs panel number `panel` of a factor to its place in out [panels, pairs, WIDTH].
template <std::int64_t WIDTH>
void pack(const Factor& f, std::int64_t panel, std::int64_t inner, std::int64_t pairs, std::int32_t* out) {
  std::int32_t* to = out + panel * WIDTH * pairs;
  if (f.inner == 1) {
    pack_along<WIDTH>(f, panel * WIDTH, inner, pairs, to);
  } else {
    pack_across<WIDTH>(f, panel * WIDTH, inner, pairs, to);
  }
}

/// A matrix [size, inner] or its transpose; one stride is 1 after a copy where none is.
inline Factor factor(at::Tensor& x) {
  if (x.stride(0) != 1 && x.stride(1) != 1) x = x.contiguous();
  const bool along = x.stride(1) == 1;
  return {x.const_data_ptr<float>(), along ? x.stride(0) : 1, along ? 1 : x.stride(1), x.size(0)};
}

/// How many panels of `width` hold `size` elements.
constexpr std::int64_t panels(std::int64_t size, std::int64_t width) { return (size + width - 1) / width; }

/// Where a register tile goes: `rows` x `columns` of it are there.
struct Target {
  float* data;
  std::int64_t stride, rows, columns;
};

/// out = a b, or out += a b, on all threads. A kernel names the sizes of its panels (kRows of a, kColumns of b), how
/// many panels a task has (kTaskRows x kTaskColumns), the pairs whose panels lie in the second-level cache while they
/// are multiplied (kPairs) and of what their number is made a multiple by zeros (kMultiple); it packs rows, multiplies
/// panels, and is made anew by each thread for its tasks.
template <class Kernel>
void panel_product(at::Tensor a, const at::Tensor& b, const at::Tensor& out, bool add) {
  const std::int64_t rows = a.size(0), inner = a.size(1), columns = b.size(1);
  const std::int64_t pairs = panels((inner + 1) / 2, Kernel::kMultiple) * Kernel::kMultiple;
  at::Tensor columns_first = b.t();
  const Factor left = factor(a), right = factor(columns_first);
  const std::int64_t row_panels = panels(rows, Kernel::kRows), column_panels = panels(columns, Kernel::kColumns);
  const auto room = [&](std::int64_t count) { return at::empty({count * pairs}, a.options().dtype(at::kInt)); };
  const at::Tensor packed_rows = room(row_panels * Kernel::kRows),
                   packed_columns = room(column_panels * Kernel::kColumns);
  std::int32_t *x = packed_rows.mutable_data_ptr<std::int32_t>(), *y = packed_columns.mutable_data_ptr<std::int32_t>();
  in_turns(row_panels + column_panels, [&](Turns& turns) {
    for (std::int64_t i = 0; turns.take(i);) {
      if (i < row_panels) {
        Kernel::pack_rows(left, i, inner, pairs, x);
      } else {
        pack<Kernel::kColumns>(right, i - row_panels, inner, pairs, y);
      }
    }
  });
  float* c = out.mutable_data_ptr<float>();
  // Equal parts: a short last one would read and write all sums once more for little.
  const std::int64_t parts = std::max<std::int64_t>(1, (pairs + Kernel::kPairs / 2) / Kernel::kPairs);
  const std::int64_t part = panels(pairs, parts * Kernel::kMultiple) * Kernel::kMultiple;
  const std::int64_t tasks_down = panels(row_panels, Kernel::kTaskRows),
                     tasks = tasks_down * panels(column_panels, Kernel::kTaskColumns);
  const auto multiply = [&](const Kernel& kernel, std::int64_t task) {
    const std::int64_t i = task % tasks_down * Kernel::kTaskRows, j = task / tasks_down * Kernel::kTaskColumns;
    for (std::int64_t k = 0; k < pairs; k += part) {
      for (std::int64_t q = j; q < std::min(j + Kernel::kTaskColumns, column_panels); ++q) {
        for (std::int64_t p = i; p < std::min(i + Kernel::kTaskRows, row_panels); ++p) {
          const std::int64_t row = p * Kernel::kRows, column = q * Kernel::kColumns;
          kernel.multiply(x + (p * pairs + k) * Kernel::kRows, y + (q * pairs + k) * Kernel::kColumns,
                          std::min(part, pairs - k),
                          {c + row * columns + column, columns, rows - row, columns - column}, add || k > 0);
        }
      }
    }
  };
  in_turns(tasks, [&](Turns& turns) {
    const Kernel kernel;
    for (std::int64_t task = 0; turns.take(task);) multiply(kernel, task);
  });
}

}  // namespace mla::bfloat16
#endif
