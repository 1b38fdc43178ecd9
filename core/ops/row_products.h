// Inner products of a few vectors with many rows, in registers: what decoding spends its time on.
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/ops/vectors.h"

namespace mla {

/// Rows in memory, one after the other at a distance of `stride` elements.
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride;
  const T* row(std::int64_t index) const { return data + index * stride; }
};

/// Whether rows are asked for before they are needed: where they come from memory and are short, they end before the
/// processor has guessed where the next ones begin. Asking for long ones pushes out what lies near.
enum class Ahead { kAsk, kWait };

/// The first PART bytes of a vector, the rest of it zeros.
template <int PART, class T, class V>
MLA_INLINE void load_part(const T* from, V& to) {
  to = V{};
  std::memcpy(&to, from, PART);
}

/// What PART bytes of columns from `column` on add to product_block()'s sums.
template <class T, int BYTES, int VECTORS, int ROWS, int PART, class Sums>
MLA_INLINE void add_part(const Rows<T>& vectors, const Rows<T>& rows, std::int64_t column, Sums& sums) {
  constexpr int kEach = ROWS > 4 ? ROWS : 4;
  Vector<T, BYTES> x[VECTORS], w;
#pragma GCC unroll 8
  for (int v = 0; v < VECTORS; ++v) load_part<PART>(vectors.row(v) + column, x[v]);
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    load_part<PART>(rows.row(r) + column, w);
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) sums[v * kEach + r] += w * x[v];
  }
}

/// out[v][r] (+)= vector v . row r for VECTORS vectors and ROWS rows (one, four or sixteen). The order of summation is
/// the same whatever VECTORS and ROWS are: a product does not depend on what else is computed with it.
template <class T, int BYTES, int VECTORS, int ROWS, Ahead AHEAD>
MLA_INLINE void product_block(const Rows<T>& vectors, const Rows<T>& rows, std::int64_t width, T* out,
                              std::int64_t out_stride, bool add) {
  constexpr int kEach = ROWS > 4 ? ROWS : 4;
  Vector<T, BYTES> sums[VECTORS * kEach] = {};
  std::int64_t whole = width / kLanes<T, BYTES> * kLanes<T, BYTES>;
#pragma GCC unroll 2
  for (std::int64_t k = 0; k < whole; k += kLanes<T, BYTES>) {
    Vector<T, BYTES> x[VECTORS], w;
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) load(vectors.row(v) + k, x[v]);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      load(rows.row(r) + k, w);
      if constexpr (ROWS > 1 && AHEAD == Ahead::kAsk) __builtin_prefetch(rows.row(r + ROWS) + k);
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) sums[v * kEach + r] += w * x[v];
    }
  }
  if constexpr (BYTES == 64) {
    if (whole + kLanes<T, 32> <= width) {
      add_part<T, BYTES, VECTORS, ROWS, 32>(vectors, rows, whole, sums);
      whole += kLanes<T, 32>;
    }
  }
  if (whole + kLanes<T, 16> <= width) {
    add_part<T, BYTES, VECTORS, ROWS, 16>(vectors, rows, whole, sums);
    whole += kLanes<T, 16>;
  }
  alignas(64) T found[VECTORS * kEach > 16 ? VECTORS * kEach : 16];
  all_lane_sums<T, BYTES>(sums, found);
#pragma GCC unroll 8
  for (int v = 0; v < VECTORS; ++v) {
    T *own = found + v * kEach, *to = out + v * out_stride;
    if (whole < width) [[unlikely]] {
      for (int r = 0; r < ROWS; ++r) {
        for (std::int64_t k = whole; k < width; ++k) own[r] += vectors.row(v)[k] * rows.row(r)[k];
      }
    }
    if (add) {
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; ++r) to[r] += own[r];
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < ROWS; ++r) to[r] = own[r];
    }
  }
}

template <class T, int BYTES, int VECTORS, Ahead AHEAD>
MLA_INLINE void product_rows(const Rows<T>& vectors, const Rows<T>& rows, std::int64_t count, std::int64_t width,
                             T* out, std::int64_t out_stride, bool add) {
  std::int64_t r = 0;
  for (; r + 4 <= count; r += 4) {
    product_block<T, BYTES, VECTORS, 4, AHEAD>(vectors, {rows.row(r), rows.stride}, width, out + r, out_stride, add);
  }
  for (; r < count; ++r) {
    product_block<T, BYTES, VECTORS, 1, AHEAD>(vectors, {rows.row(r), rows.stride}, width, out + r, out_stride, add);
  }
}

/// out[v][r] (+)= vector v . row r for any number of vectors and rows. Four rows at a time meet all vectors, so that
/// rows are read once from wherever they lie.
template <class T, int BYTES, Ahead AHEAD = Ahead::kAsk>
MLA_INLINE void products(const Rows<T>& vectors, std::int64_t vector_count, const Rows<T>& rows, std::int64_t count,
                         std::int64_t width, T* out, std::int64_t out_stride, bool add) {
  constexpr int kMost = BYTES == 64 ? 4 : 3;  // sums of four rows each, of AVX-512's 32 registers or AVX2's 16
  std::int64_t begin = 0;
  if constexpr (BYTES == 64 && std::is_same_v<T, float>) {
    // One vector and short rows, such as one head's rotated keys: the sums over lanes are what costs.
    for (; vector_count == 1 && width <= 4 * kLanes<T, BYTES> && begin + 16 <= count; begin += 16) {
      product_block<T, BYTES, 1, 16, AHEAD>(vectors, {rows.row(begin), rows.stride}, width, out + begin, out_stride,
                                            add);
    }
  }
  for (; begin < count; begin += 4) {
    const std::int64_t some = count - begin < 4 ? count - begin : 4;
    const Rows<T> block{rows.row(begin), rows.stride};
    std::int64_t v = 0;
    for (; v + kMost <= vector_count; v += kMost) {
      product_rows<T, BYTES, kMost, AHEAD>({vectors.row(v), vectors.stride}, block, some, width,
                                           out + v * out_stride + begin, out_stride, add);
    }
    const Rows<T> left{vectors.row(v), vectors.stride};
    T* to = out + v * out_stride + begin;
    if (vector_count - v == 3) {
      product_rows<T, BYTES, 3, AHEAD>(left, block, some, width, to, out_stride, add);
    } else if (vector_count - v == 2) {
      product_rows<T, BYTES, 2, AHEAD>(left, block, some, width, to, out_stride, add);
    } else if (vector_count - v == 1) {
      product_rows<T, BYTES, 1, AHEAD>(left, block, some, width, to, out_stride, add);
    }
  }
}

/// out[h][columns] = out[h] * factor[h] + sum over rows of weight[h][row] * rows[row][columns], for HEADS heads and
/// VECTORS vectors of columns.
template <class T, int BYTES, int HEADS, int VECTORS>
MLA_INLINE void weighted_block(const T* weights, std::int64_t weight_stride, const T* factor, const Rows<T>& rows,
                               std::int64_t count, T* out, std::int64_t out_stride) {
  Vector<T, BYTES> sums[HEADS][VECTORS];
#pragma GCC unroll 8
  for (int h = 0; h < HEADS; ++h) {
#pragma GCC unroll 8
    for (int c = 0; c < VECTORS; ++c) {
      load(out + h * out_stride + c * kLanes<T, BYTES>, sums[h][c]);
      sums[h][c] *= factor[h];
    }
  }
  for (std::int64_t t = 0; t < count; ++t) {
    Vector<T, BYTES> x[VECTORS];
#pragma GCC unroll 8
    for (int c = 0; c < VECTORS; ++c) load(rows.row(t) + c * kLanes<T, BYTES>, x[c]);
#pragma GCC unroll 8
    for (int h = 0; h < HEADS; ++h) {
      const T weight = weights[h * weight_stride + t];
#pragma GCC unroll 8
      for (int c = 0; c < VECTORS; ++c) sums[h][c] += weight * x[c];
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < HEADS; ++h) {
#pragma GCC unroll 8
    for (int c = 0; c < VECTORS; ++c) store(sums[h][c], out + h * out_stride + c * kLanes<T, BYTES>);
  }
}

template <class T, int BYTES, int HEADS>
MLA_INLINE void weighted_rows(const T* weights, std::int64_t weight_stride, const T* factor, const Rows<T>& rows,
                              std::int64_t count, std::int64_t width, T* out, std::int64_t out_stride) {
  std::int64_t c = 0;
  if constexpr (HEADS <= 3) {
    for (; c + 4 * kLanes<T, BYTES> <= width; c += 4 * kLanes<T, BYTES>) {
      weighted_block<T, BYTES, HEADS, 4>(weights, weight_stride, factor, {rows.data + c, rows.stride}, count, out + c,
                                         out_stride);
    }
  }
  for (; c + 2 * kLanes<T, BYTES> <= width; c += 2 * kLanes<T, BYTES>) {
    weighted_block<T, BYTES, HEADS, 2>(weights, weight_stride, factor, {rows.data + c, rows.stride}, count, out + c,
                                       out_stride);
  }
  for (; c + kLanes<T, BYTES> <= width; c += kLanes<T, BYTES>) {
    weighted_block<T, BYTES, HEADS, 1>(weights, weight_stride, factor, {rows.data + c, rows.stride}, count, out + c,
                                       out_stride);
  }
  if constexpr (BYTES == 64) {
    for (; c + kLanes<T, 32> <= width; c += kLanes<T, 32>) {
      weighted_block<T, 32, HEADS, 1>(weights, weight_stride, factor, {rows.data + c, rows.stride}, count, out + c,
                                      out_stride);
    }
  }
  for (; c + kLanes<T, 16> <= width; c += kLanes<T, 16>) {
    weighted_block<T, 16, HEADS, 1>(weights, weight_stride, factor, {rows.data + c, rows.stride}, count, out + c,
                                    out_stride);
  }
  for (; c < width; ++c) {
    for (int h = 0; h < HEADS; ++h) {
      T sum = out[h * out_stride + c] * factor[h];
      for (std::int64_t t = 0; t < count; ++t) sum += weights[h * weight_stride + t] * rows.row(t)[c];
      out[h * out_stride + c] = sum;
    }
  }
}

/// The same for any number of heads: as many at a time as the registers hold, eight or six.
template <class T, int BYTES>
MLA_INLINE void weighted_sums(const T* weights, std::int64_t weight_stride, const T* factor, const Rows<T>& rows,
                              std::int64_t count, std::int64_t width, T* out, std::int64_t out_stride,
                              std::int64_t heads) {
  for (std::int64_t h = 0; h < heads;) {
    const T* w = weights + h * weight_stride;
    T* o = out + h * out_stride;
    const std::int64_t left = heads - h;
    if constexpr (BYTES == 64) {
      if (left >= 8) {
        weighted_rows<T, BYTES, 8>(w, weight_stride, factor + h, rows, count, width, o, out_stride);
        h += 8;
        continue;
      }
    }
    // Seven are better served as four and three, eight as four and four, than as six and a rest.
    if (left == 6 || left >= 9) {
      weighted_rows<T, BYTES, 6>(w, weight_stride, factor + h, rows, count, width, o, out_stride);
      h += 6;
    } else if (left == 5) {
      weighted_rows<T, BYTES, 5>(w, weight_stride, factor + h, rows, count, width, o, out_stride);
      h += 5;
    } else if (left == 4 || left >= 7) {
      weighted_rows<T, BYTES, 4>(w, weight_stride, factor + h, rows, count, width, o, out_stride);
      h += 4;
    } else if (left == 3) {
      weighted_rows<T, BYTES, 3>(w, weight_stride, factor + h, rows, count, width, o, out_stride);
      h += 3;
    } else if (left == 2) {
      weighted_rows<T, BYTES, 2>(w, weight_stride, factor + h, rows, count, width, o, out_stride);
      h += 2;
    } else {
      weighted_rows<T, BYTES, 1>(w, weight_stride, factor + h, rows, count, width, o, out_stride);
      h += 1;
    }
  }
}

}  // namespace mla
