// Attention heads as register tiles read them: whole vectors, whole tiles, row after row or in panels of columns.
#pragma once

#include <ATen/Functions.h>

#include "core/ops/tile_product.h"
#include "core/ops/vector_math.h"

namespace mla {

/// Rows of one head, in a tensor [batch, heads, length, width] or packed.
template <class T>
struct HeadRows {
  T* data;
  std::int64_t stride, width;
  T* row(std::int64_t index) const { return data + index * stride; }
};
template <class T>
HeadRows<const T> head_of(const at::Tensor& x, std::int64_t index) {
  return {x.const_data_ptr<T>() + index / x.size(1) * x.stride(0) + index % x.size(1) * x.stride(1), x.stride(2),
          x.size(3)};
}
template <class T>
HeadRows<T> writable_head(const at::Tensor& x, std::int64_t index) {
  return {x.mutable_data_ptr<T>() + index / x.size(1) * x.stride(0) + index % x.size(1) * x.stride(1), x.stride(2),
          x.size(3)};
}

/// Width of a packed row: whole vectors.
template <class T>
std::int64_t packed_width(const at::Tensor& x) {
  return rounded_up(x.size(3), kLanes<T>);
}

/// Room for `count` blocks of `size` elements, on whole cache lines.
template <class T>
class Room {
 public:
  Room(std::int64_t count, std::int64_t size)
      : size_(rounded_up(size, 64 / static_cast<std::int64_t>(sizeof(T)))),
        memory_(at::empty({count, size_}, at::CPU(c10::CppTypeToScalarType<T>::value))),
        data_(memory_.mutable_data_ptr<T>()) {}
  T* block(std::int64_t index) const { return data_ + index * size_; }

 private:
  std::int64_t size_;
  at::Tensor memory_;
  T* data_;
};

/// Calls work(unit, room) for units 0 … count - 1, each on the next thread that is free: give the costly ones first. A
/// thread's room holds `size` elements.
template <class T, class Work>
void for_units(std::int64_t count, std::int64_t size, const Work& work) {
  in_turns(count, [&](Turns& turns) {
    const Room<T> room(1, size);
    for (std::int64_t unit = 0; turns.take(unit);) work(unit, room.block(0));
  });
}

/// a0 b0 a1 b1 …, in two vectors.
template <class T>
MLA_INLINE void interleave(const Vector<T>& a, const Vector<T>& b, Vector<T>& low, Vector<T>& high) {
  if constexpr (std::is_same_v<T, float>) {
    low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  } else {
    low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  }
}

/// Transposes a square of kLanes rows and columns.
template <class T>
MLA_INLINE void transpose_square(const T* from, std::int64_t from_stride, T* to, std::int64_t to_stride) {
  constexpr std::int64_t kSize = kLanes<T>;
  Vector<T> rows[kSize], mixed[kSize];
#pragma GCC unroll 8
  for (int i = 0; i < kSize; ++i) load(from + i * from_stride, rows[i]);
    // Each step moves the highest bit of an element's row below the bits of its column.
#pragma GCC unroll 3
  for (int step = 1; step < kSize; step *= 2) {
#pragma GCC unroll 4
    for (int i = 0; i < kSize / 2; ++i) interleave<T>(rows[i], rows[i + kSize / 2], mixed[2 * i], mixed[2 * i + 1]);
#pragma GCC unroll 8
    for (int i = 0; i < kSize; ++i) rows[i] = mixed[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < kSize; ++i) store(rows[i], to + i * to_stride);
}

/// to = from * scale.
template <class T>
MLA_INLINE void scale_row(const T* from, std::int64_t width, T scale, T* to) {
  std::int64_t i = 0;
  for (; i + kLanes<T> <= width; i += kLanes<T>) {
    Vector<T> x;
    load(from + i, x);
    store<T>(x * scale, to + i);
  }
  for (; i < width; ++i) to[i] = from[i] * scale;
}

/// Rows times `scale`, filled up with zeros to whole vectors and whole register tiles.
template <class T>
MLA_INLINE void pack_rows(const HeadRows<const T>& from, std::int64_t count, T scale, std::int64_t to_width, T* to) {
  for (std::int64_t row = 0; row < rounded_up(count, kTileRows); ++row, to += to_width) {
    const std::int64_t width = row < count ? from.width : 0;
    scale_row(from.row(row), width, scale, to);
    for (std::int64_t i = width; i < to_width; ++i) to[i] = 0;
  }
}
/// The transposed matrix in panels of kTileColumns rows: [panel, width, kTileColumns], filled up with zeros.
template <class T>
MLA_INLINE void pack_panels(const HeadRows<const T>& from, std::int64_t count, T* to) {
  constexpr std::int64_t kColumns = kTileColumns<T>;
  for (std::int64_t begin = 0; begin < count; begin += kColumns, to += kColumns * from.width) {
    const std::int64_t rows = std::min(count - begin, kColumns);
    if (rows < kColumns) std::fill_n(to, kColumns * from.width, T(0));
    for (std::int64_t j = 0; j < rows; j += kLanes<T>) {
      std::int64_t i = 0;
      for (; j + kLanes<T> <= rows && i + kLanes<T> <= from.width; i += kLanes<T>) {
        transpose_square(from.row(begin + j) + i, from.stride, to + i * kColumns + j, kColumns);
      }
      for (; i < from.width; ++i) {
        for (std::int64_t k = j; k < std::min(j + kLanes<T>, rows); ++k) {
          to[i * kColumns + k] = from.row(begin + k)[i];
        }
      }
    }
  }
}
inline std::int64_t panels_size(const at::Tensor& x, std::int64_t columns) {
  return rounded_up(x.size(2), columns) * x.size(3);
}

/// pack_rows() and pack_panels() as kernels.
void pack_kernel(const HeadRows<const float>& from, std::int64_t count, float scale, std::int64_t to_width, float* to);
void pack_kernel(const HeadRows<const double>& from, std::int64_t count, double scale, std::int64_t to_width,
                 double* to);
void panels_kernel(const HeadRows<const float>& from, std::int64_t count, float* to);
void panels_kernel(const HeadRows<const double>& from, std::int64_t count, double* to);

}  // namespace mla
