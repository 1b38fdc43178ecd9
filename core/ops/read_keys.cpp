#include "core/ops/read_keys.h"

#include <algorithm>

namespace mla {
namespace {

/// Rows that are made together: what they are made of stays in registers' reach while the map's rows pass by.
constexpr std::int64_t kRowsAtOnce = 16;

template <class T, int BYTES>
MLA_INLINE void expand(const Rows<T>& rows, const DecodeMemory& memory, std::int64_t index, std::int64_t count,
                       T* out) {
  const DecodeExpansion& by = memory.expansion;
  const std::int64_t width = memory.width;
  const Rows<T> map{static_cast<const T*>(by.maps) + index * by.from * width, width};
  const T* bias = by.biases ? static_cast<const T*>(by.biases) + index * width : nullptr;
  T ones[kRowsAtOnce];
  std::fill_n(ones, kRowsAtOnce, T(1));
  for (std::int64_t begin = 0; begin < count; begin += kRowsAtOnce, out += kRowsAtOnce * width) {
    const std::int64_t some = std::min(kRowsAtOnce, count - begin);
    for (std::int64_t t = 0; t < some; ++t) {
      if (bias) {
        std::copy_n(bias, width, out + t * width);
      } else {
        std::fill_n(out + t * width, width, T(0));
      }
    }
    weighted_sums<T, BYTES>(rows.row(begin), rows.stride, ones, map, by.from, width, out, width, some);
  }
}

/// `pairs` pairs, real and imaginary parts side by side each, by one row of each table.
template <class T>
MLA_INLINE void turn(const T* real, const T* imaginary, std::int64_t pairs, const T* cosine, const T* sine, T* to_real,
                     T* to_imaginary) {
#pragma omp simd
  for (std::int64_t k = 0; k < pairs; ++k) {
    const T x = real[k], y = imaginary[k];
    to_real[k] = x * cosine[k] - y * sine[k];
    to_imaginary[k] = y * cosine[k] + x * sine[k];
  }
}

template <class T>
MLA_INLINE void turn_all(const Rows<T>& rows, const DecodeMemory& memory, std::int64_t position, std::int64_t count,
                         T* out) {
  constexpr std::int64_t kPairs = 64;  // put side by side at a time
  const DecodeRotation& by = memory.rotation;
  const std::int64_t half = memory.width / 2;
  T own_cosine[kPairs], own_sine[kPairs];
  for (std::int64_t t = 0; t < count; ++t, out += memory.width) {
    const T *cosine = static_cast<const T*>(by.cosine) + (position + t) * by.stride,
            *sine = static_cast<const T*>(by.sine) + (position + t) * by.stride, *from = rows.row(t);
    if (!by.pairs) turn(from, from + half, half, cosine, sine, out, out + half);
    for (std::int64_t begin = 0; by.pairs && begin < half; begin += kPairs) {
      const std::int64_t some = std::min(kPairs, half - begin);
      for (std::int64_t k = 0; k < some; ++k) {
        own_cosine[k] = cosine[by.pairs[begin + k]];
        own_sine[k] = sine[by.pairs[begin + k]];
      }
      turn(from + begin, from + half + begin, some, own_cosine, own_sine, out + begin, out + half + begin);
    }
  }
}

MLA_VECTORISED void expand_kernel(const Rows<float>& rows, const DecodeMemory& memory, std::int64_t index,
                                  std::int64_t count, float* out) {
  expand<float, 32>(rows, memory, index, count, out);
}
MLA_VECTORISED void expand_kernel(const Rows<double>& rows, const DecodeMemory& memory, std::int64_t index,
                                  std::int64_t count, double* out) {
  expand<double, 32>(rows, memory, index, count, out);
}
MLA_AVX512 void wide_expand_kernel(const Rows<float>& rows, const DecodeMemory& memory, std::int64_t index,
                                   std::int64_t count, float* out) {
  expand<float, 64>(rows, memory, index, count, out);
}
MLA_AVX512 void wide_expand_kernel(const Rows<double>& rows, const DecodeMemory& memory, std::int64_t index,
                                   std::int64_t count, double* out) {
  expand<double, 64>(rows, memory, index, count, out);
}

MLA_VECTORISED void turn_kernel(const Rows<float>& rows, const DecodeMemory& memory, std::int64_t position,
                                std::int64_t count, float* out) {
  turn_all(rows, memory, position, count, out);
}
MLA_VECTORISED void turn_kernel(const Rows<double>& rows, const DecodeMemory& memory, std::int64_t position,
                                std::int64_t count, double* out) {
  turn_all(rows, memory, position, count, out);
}

template <class T>
void expand_by_any(const Rows<T>& rows, const DecodeMemory& memory, std::int64_t index, std::int64_t count, T* out) {
  if (has_avx512() && memory.width % kLanes<T, 64> == 0) {
    wide_expand_kernel(rows, memory, index, count, out);
  } else {
    expand_kernel(rows, memory, index, count, out);
  }
}

}  // namespace

void expand_rows(const Rows<float>& rows, const DecodeMemory& memory, std::int64_t index, std::int64_t count,
                 float* out) {
  expand_by_any(rows, memory, index, count, out);
}
void expand_rows(const Rows<double>& rows, const DecodeMemory& memory, std::int64_t index, std::int64_t count,
                 double* out) {
  expand_by_any(rows, memory, index, count, out);
}
void turn_rows(const Rows<float>& rows, const DecodeMemory& memory, std::int64_t position, std::int64_t count,
               float* out) {
  turn_kernel(rows, memory, position, count, out);
}
void turn_rows(const Rows<double>& rows, const DecodeMemory& memory, std::int64_t position, std::int64_t count,
               double* out) {
  turn_kernel(rows, memory, position, count, out);
}

}  // namespace mla
