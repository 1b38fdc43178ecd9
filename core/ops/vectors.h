// Vectors of numbers as the CPU kernels hold them in registers: their sizes, loads and sums over lanes.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/ops/vector_math.h"

namespace mla {

/// BYTES bytes of numbers: 32 are one AVX2 register, 64 one of AVX-512. Instruction sets without them get several
/// narrower operations.
template <class T, int BYTES>
struct VectorOf;
template <int BYTES>
struct VectorOf<float, BYTES> {
  typedef float type __attribute__((vector_size(BYTES)));
};
template <int BYTES>
struct VectorOf<double, BYTES> {
  typedef double type __attribute__((vector_size(BYTES)));
};
template <int BYTES>
struct VectorOf<std::int32_t, BYTES> {
  typedef std::int32_t type __attribute__((vector_size(BYTES)));
};
template <int BYTES>
struct VectorOf<std::uint64_t, BYTES> {
  typedef std::uint64_t type __attribute__((vector_size(BYTES)));
};
template <class T, int BYTES = 32>
using Vector = typename VectorOf<T, BYTES>::type;
template <class T, int BYTES = 32>
constexpr std::int64_t kLanes = BYTES / static_cast<std::int64_t>(sizeof(T));
/// Elements of a cache line.
template <class T>
constexpr std::int64_t kLine = static_cast<std::int64_t>(64 / sizeof(T));

template <class T, class V>
MLA_INLINE void load(const T* from, V& to) {
  std::memcpy(&to, from, sizeof(to));
}
template <class T, class V>
MLA_INLINE void store(const V& from, T* to) {
  std::memcpy(to, &from, sizeof(from));
}

/// The sums over the lanes of four vectors.
template <class T>
MLA_INLINE void lane_sums(const Vector<T>& a, const Vector<T>& b, const Vector<T>& c, const Vector<T>& d, T* sums) {
  if constexpr (std::is_same_v<T, float>) {
    const Vector<T> ab = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13) +
                         __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    const Vector<T> cd = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13) +
                         __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
    const Vector<T> all = __builtin_shufflevector(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) +
                          __builtin_shufflevector(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
#pragma GCC unroll 8
    for (int i = 0; i < 4; ++i) sums[i] = all[i] + all[i + 4];
  } else {
    const Vector<T> ab = __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);
    const Vector<T> cd = __builtin_shufflevector(c, d, 0, 4, 2, 6) + __builtin_shufflevector(c, d, 1, 5, 3, 7);
#pragma GCC unroll 8
    for (int i = 0; i < 2; ++i) {
      sums[i] = ab[i] + ab[i + 2];
      sums[i + 2] = cd[i] + cd[i + 2];
    }
  }
}

/// The sums over the lanes of sixteen vectors.
MLA_INLINE void lane_sums(const Vector<float, 64> (&of)[16], float* sums) {
  Vector<float, 64> eight[8], four[4], two[2], one;
  // Each step adds lanes at half the distance of the step before and puts two vectors into one.
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const Vector<float, 64>&a = of[i / 2 + i % 2 * 8], &b = of[i / 2 + i % 2 * 8 + 4];
    eight[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
               __builtin_shufflevector(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const Vector<float, 64>&a = eight[2 * i], &b = eight[2 * i + 1];
    four[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
              __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Vector<float, 64>&a = four[2 * i], &b = four[2 * i + 1];
    two[i] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
             __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  one = __builtin_shufflevector(two[0], two[1], 0, 2, 16, 18, 4, 6, 20, 22, 8, 10, 24, 26, 12, 14, 28, 30) +
        __builtin_shufflevector(two[0], two[1], 1, 3, 17, 19, 5, 7, 21, 23, 9, 11, 25, 27, 13, 15, 29, 31);
  store(one, sums);
}

/// The sum of the two halves of a vector, or the vector itself where it has 32 bytes.
template <class T, int BYTES>
MLA_INLINE void add_halves(const Vector<T, BYTES>& whole, Vector<T>& sum) {
  std::memcpy(&sum, &whole, sizeof(sum));
  if constexpr (BYTES > 32) {
    Vector<T> high;
    std::memcpy(&high, reinterpret_cast<const char*>(&whole) + sizeof(sum), sizeof(high));
    sum += high;
  }
}

/// The sums over the lanes of each of COUNT vectors, in the same order of summation for any COUNT up to 16.
template <class T, int BYTES, int COUNT>
MLA_INLINE void all_lane_sums(const Vector<T, BYTES> (&of)[COUNT], T* sums) {
  if constexpr (BYTES == 64 && std::is_same_v<T, float>) {
    Vector<float, 64> sixteen[16] = {};
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; ++i) sixteen[i] = of[i];
    lane_sums(sixteen, sums);
  } else {
    static_assert(COUNT % 4 == 0);
#pragma GCC unroll 4
    for (int i = 0; i < COUNT; i += 4) {
      Vector<T> narrow[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) add_halves<T, BYTES>(of[i + r], narrow[r]);
      lane_sums<T>(narrow[0], narrow[1], narrow[2], narrow[3], sums + i);
    }
  }
}

}  // namespace mla
