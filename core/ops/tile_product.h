// Matrix products of small blocks, in registers. They do without the packing and the calls of a BLAS, which cost as
// much as the products themselves where one of the sizes is a head's width.
#pragma once

#include <cstdint>

#include "core/ops/vectors.h"

namespace mla {

/// Rows of one register tile: with two vectors of columns, twelve registers hold sums, of AVX2's sixteen.
constexpr std::int64_t kTileRows = 6;
/// Columns that are packed together: a register tile of 32-byte vectors, or one vector of 64 bytes.
template <class T>
constexpr std::int64_t kTileColumns = 2 * kLanes<T>;

constexpr std::int64_t rounded_up(std::int64_t count, std::int64_t unit) { return (count + unit - 1) / unit * unit; }

/// A left factor in memory: element (row, inner) lies at data[row * ROW + inner * INNER].
template <class T>
struct LeftFactor {
  const T* data;
  std::int64_t row, inner;
};

/// A right factor in memory: rows at a distance of `stride`, vectors of a row's columns at a distance of `vector`.
template <class T>
struct RightFactor {
  const T* data;
  std::int64_t stride, vector;
};

/// c [6, VECTORS vectors of BYTES bytes] = a b, or c + a b; b [inner, VECTORS vectors].
template <class T, int BYTES, int VECTORS>
MLA_INLINE void register_tile(const LeftFactor<T>& a, const RightFactor<T>& b, std::int64_t inner, T* c,
                              std::int64_t c_stride, bool add) {
  Vector<T, BYTES> sums[kTileRows][VECTORS] = {};
  for (std::int64_t k = 0; k < inner; ++k) {
    Vector<T, BYTES> x[VECTORS];
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) load(b.data + k * b.stride + j * b.vector, x[j]);
#pragma GCC unroll 6
    for (int i = 0; i < kTileRows; ++i) {
      const T factor = a.data[i * a.row + k * a.inner];
#pragma GCC unroll 2
      for (int j = 0; j < VECTORS; ++j) sums[i][j] += factor * x[j];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) {
      T* to = c + i * c_stride + j * kLanes<T, BYTES>;
      if (add) {
        Vector<T, BYTES> before;
        load(to, before);
        sums[i][j] += before;
      }
      store(sums[i][j], to);
    }
  }
}

/// c [6, columns] = a b, or c + a b; b [inner, columns]; columns are a multiple of kLanes of 32 bytes.
template <class T, int BYTES>
MLA_INLINE void tile_product(const LeftFactor<T>& a, const T* b, std::int64_t b_stride, std::int64_t inner,
                             std::int64_t columns, T* c, std::int64_t c_stride, bool add) {
  constexpr std::int64_t kWide = kLanes<T, BYTES>;
  std::int64_t j = 0;
  for (; j + 2 * kWide <= columns; j += 2 * kWide) {
    register_tile<T, BYTES, 2>(a, {b + j, b_stride, kWide}, inner, c + j, c_stride, add);
  }
  if (j + kWide <= columns) {
    register_tile<T, BYTES, 1>(a, {b + j, b_stride, kWide}, inner, c + j, c_stride, add);
    j += kWide;
  }
  if (j < columns) register_tile<T, 32, 1>(a, {b + j, b_stride, kWide}, inner, c + j, c_stride, add);
}

}  // namespace mla
