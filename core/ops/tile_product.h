// Matrix products of small blocks, in registers. They do without the packing and the calls of a BLAS, which cost as
// much as the products themselves where one of the sizes is a head's width.
#pragma once

#include <cstdint>

#include "core/ops/row_products.h"

namespace mla {

/// Rows of one register tile: with two vectors of columns, twelve of AVX2's sixteen registers hold sums.
constexpr std::int64_t kTileRows = 6;
/// Columns of one register tile.
template <class T>
constexpr std::int64_t kTileColumns = 2 * kLanes<T>;

constexpr std::int64_t rounded_up(std::int64_t count, std::int64_t unit) { return (count + unit - 1) / unit * unit; }

/// A left factor in memory: element (row, inner) lies at data[row * ROW + inner * INNER].
template <class T>
struct LeftFactor {
  const T* data;
  std::int64_t row, inner;
};

/// c [6, VECTORS vectors] = a b, or c + a b; b [inner, VECTORS vectors].
template <class T, int VECTORS>
MLA_INLINE void register_tile(const LeftFactor<T>& a, const T* b, std::int64_t b_stride, std::int64_t inner, T* c,
                              std::int64_t c_stride, bool add) {
  Vector<T> sums[kTileRows][VECTORS] = {};
  for (std::int64_t k = 0; k < inner; ++k) {
    Vector<T> x[VECTORS];
#pragma GCC unroll 2
    for (int j = 0; j < VECTORS; ++j) load(b + k * b_stride + j * kLanes<T>, x[j]);
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
      T* to = c + i * c_stride + j * kLanes<T>;
      if (add) {
        Vector<T> before;
        load(to, before);
        sums[i][j] += before;
      }
      store(sums[i][j], to);
    }
  }
}

/// c [6, columns] = a b, or c + a b; b [inner, columns]; columns are a multiple of kLanes.
template <class T>
MLA_INLINE void tile_product(const LeftFactor<T>& a, const T* b, std::int64_t b_stride, std::int64_t inner,
                             std::int64_t columns, T* c, std::int64_t c_stride, bool add) {
  std::int64_t j = 0;
  for (; j + kTileColumns<T> <= columns; j += kTileColumns<T>) {
    register_tile<T, 2>(a, b + j, b_stride, inner, c + j, c_stride, add);
  }
  if (j < columns) register_tile<T, 1>(a, b + j, b_stride, inner, c + j, c_stride, add);
}

}  // namespace mla
