#include "core/ops/bfloat16_product.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstdint>

#include "core/ops/products.h"
#include "core/ops/vector_math.h"

#if MLA_GCC_ON_X86
#include <immintrin.h>
// GCC 12 takes the registers that its own header leaves undefined, where every lane is written, for a mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#define MLA_BFLOAT16 [[gnu::target("arch=x86-64-v4,avx512bf16,prefer-vector-width=512")]]
#endif

namespace mla {
namespace {

at::Tensor rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); }

using WideProduct = at::Tensor(const at::Tensor&, const at::Tensor&, at::ScalarType);

/// LibTorch's product of bfloat16 matrices whose sums stay float32 (from 2.8 on), which GPUs have units for; undefined
/// where this device has none.
at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cpu() || a.device() != b.device()) return {};
  static const auto found = c10::Dispatcher::singleton().findSchema({"aten::mm", "dtype"});
  const c10::DispatchKey key = a.is_cuda() ? c10::DispatchKey::CUDA : c10::DispatchKey::PrivateUse1;
  if (!found || !a.key_set().has(key) || !found->hasKernelForDispatchKey(key)) return {};
  return found->typed<WideProduct>().call(a.to(at::kBFloat16), b.to(at::kBFloat16), at::kFloat);
}

#if MLA_GCC_ON_X86

/// A register tile: 28 registers hold its sums, two the columns of b, one or two an element of a for all columns.
constexpr std::int64_t kRows = 14, kColumns = 32;
/// Of `inner`: pairs whose panels lie in the second-level cache while they are multiplied.
constexpr std::int64_t kPairs = 256;
/// Panels of a task's rows and columns.
constexpr std::int64_t kTaskRows = 16, kTaskColumns = 12;

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
/// neighbours along `inner`, which lie side by side in memory.
template <std::int64_t WIDTH>
MLA_BFLOAT16 void pack_along(const Factor& f, std::int64_t first, std::int64_t inner, std::int32_t* out) {
  const std::int64_t pairs = (inner + 1) / 2;
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
MLA_BFLOAT16 void pack_across(const Factor& f, std::int64_t first, std::int64_t inner, std::int32_t* out) {
  for (std::int64_t k = 0; k < inner; k += 2) {
    const float* from = f.data + k * f.inner + first;
    for (std::int64_t j = 0; j < WIDTH; j += 16) {
      const __mmask16 there = lanes(std::min(WIDTH, f.size - first) - j), second = k + 1 < inner ? there : __mmask16(0);
      const __m512i low = halves(_mm512_maskz_loadu_ps(there, from + j)),
                    high = halves(_mm512_maskz_loadu_ps(second, from + f.inner + j));
      _mm512_mask_storeu_epi32(out + k / 2 * WIDTH + j, lanes(WIDTH - j),
                               _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
  }
}

template <std::int64_t WIDTH>
void pack(const Factor& f, std::int64_t panel, std::int64_t inner, std::int32_t* out) {
  std::int32_t* to = out + panel * WIDTH * ((inner + 1) / 2);
  if (f.inner == 1) {
    pack_along<WIDTH>(f, panel * WIDTH, inner, to);
  } else {
    pack_across<WIDTH>(f, panel * WIDTH, inner, to);
  }
}

/// Where a register tile goes: `rows` x `columns` of it are there.
struct Target {
  float* data;
  std::int64_t stride, rows, columns;
};

/// c = a b, or c + a b, for panels a [pairs, 14] and b [pairs, 32].
MLA_BFLOAT16 void tile(const std::int32_t* a, const std::int32_t* b, std::int64_t pairs, const Target& c, bool add) {
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
  const __mmask16 masks[2] = {lanes(c.columns), lanes(c.columns - 16)};
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

/// A matrix [size, inner] or its transpose; one stride is 1 after a copy where none is.
Factor factor(at::Tensor& x) {
  if (x.stride(0) != 1 && x.stride(1) != 1) x = x.contiguous();
  const bool along = x.stride(1) == 1;
  return {x.const_data_ptr<float>(), along ? x.stride(0) : 1, along ? 1 : x.stride(1), x.size(0)};
}

std::int64_t panels(std::int64_t size, std::int64_t width) { return (size + width - 1) / width; }

/// out = a b, or out += a b.
void kernel_product(at::Tensor a, const at::Tensor& b, const at::Tensor& out, bool add) {
  const std::int64_t rows = a.size(0), inner = a.size(1), columns = b.size(1), pairs = (inner + 1) / 2;
  at::Tensor columns_first = b.t();
  const Factor left = factor(a), right = factor(columns_first);
  const std::int64_t row_panels = panels(rows, kRows), column_panels = panels(columns, kColumns);
  const auto room = [&](std::int64_t count) { return at::empty({count * pairs}, a.options().dtype(at::kInt)); };
  const at::Tensor packed_rows = room(row_panels * kRows), packed_columns = room(column_panels * kColumns);
  std::int32_t *x = packed_rows.mutable_data_ptr<std::int32_t>(), *y = packed_columns.mutable_data_ptr<std::int32_t>();
  in_turns(row_panels + column_panels, [&](Turns& turns) {
    for (std::int64_t i = 0; turns.take(i);) {
      if (i < row_panels) {
        pack<kRows>(left, i, inner, x);
      } else {
        pack<kColumns>(right, i - row_panels, inner, y);
      }
    }
  });
  float* c = out.mutable_data_ptr<float>();
  const std::int64_t tasks_down = panels(row_panels, kTaskRows),
                     tasks = tasks_down * panels(column_panels, kTaskColumns);
  const auto multiply = [&](std::int64_t task) {
    const std::int64_t i = task % tasks_down * kTaskRows, j = task / tasks_down * kTaskColumns;
    for (std::int64_t k = 0; k < pairs; k += kPairs) {
      for (std::int64_t q = j; q < std::min(j + kTaskColumns, column_panels); ++q) {
        for (std::int64_t p = i; p < std::min(i + kTaskRows, row_panels); ++p) {
          const std::int64_t row = p * kRows, column = q * kColumns;
          tile(x + (p * pairs + k) * kRows, y + (q * pairs + k) * kColumns, std::min(kPairs, pairs - k),
               {c + row * columns + column, columns, rows - row, columns - column}, add || k > 0);
        }
      }
    }
  };
  in_turns(tasks, [&](Turns& turns) {
    for (std::int64_t task = 0; turns.take(task);) multiply(task);
  });
}

#endif

/// out = a b, or out += a b.
void compute(const at::Tensor& a, const at::Tensor& b, at::Tensor out, bool add) {
  expects(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) && a.scalar_type() == at::kFloat &&
              b.scalar_type() == at::kFloat,
          "bfloat16_product takes float32 matrices that fit");
  const at::NoGradGuard no_gradients;
#if MLA_GCC_ON_X86
  if (has_fast_bfloat16() && a.is_cpu() && b.is_cpu() && a.numel() > 0 && b.numel() > 0) {
    return kernel_product(a.detach(), b.detach(), out, add);
  }
#endif
  if (const at::Tensor product = wide_product(a.detach(), b.detach()); product.defined()) {
    if (add) {
      out.add_(product);
    } else {
      out.copy_(product);
    }
    return;
  }
  const at::Tensor left = rounded(a.detach()), right = rounded(b.detach());
  if (add) {
    out.addmm_(left, right);
  } else {
    at::mm_out(out, left, right);
  }
}

}  // namespace

at::Tensor bfloat16_product(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options().requires_grad(false));
  compute(a, b, out, false);
  return out;
}

void add_bfloat16_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  expects(sum.is_contiguous() && sum.scalar_type() == at::kFloat, "sums are contiguous and float32");
  compute(a, b, sum.detach(), true);
}

}  // namespace mla
