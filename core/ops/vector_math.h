// What the loops of the CPU kernels share: the instruction sets they are compiled for, exp, and the split over threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>

#include "core/base/error.h"
#include "core/ops/kernels.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MLA_GCC_ON_X86 1
#else
#define MLA_GCC_ON_X86 0
#endif
/// Compiles a kernel for several instruction sets, of which the loader picks the best that the machine has (not under
/// the address and thread sanitizers, which are not there yet when the loader asks). They are named by level, not by
/// processor
/// ("haswell"): GCC takes a processor's name for that very model, and would leave all others, such as AMD's, with the
/// default.
#if MLA_GCC_ON_X86 && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define MLA_VECTORISED [[gnu::target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")]]
#else
#define MLA_VECTORISED
#endif
/// A kernel that is written for vectors of 64 bytes, to be called where has_avx512(). The clones above leave it to the
/// compiler how wide vectors are, and it prefers 32 bytes.
#if MLA_GCC_ON_X86
#define MLA_AVX512 [[gnu::target("arch=x86-64-v4,prefer-vector-width=512")]]
#else
#define MLA_AVX512
#endif
/// Kernel bodies are inlined into each clone, so that they are compiled for its instruction set.
#define MLA_INLINE [[gnu::always_inline]] inline

namespace mla {

/// Whether the processor runs what MLA_AVX512 marks, and LibTorch's own kernels do so: ATEN_CPU_CAPABILITY=avx2 in the
/// environment holds back both.
inline bool has_avx512() {
#if MLA_GCC_ON_X86
  static const bool has = __builtin_cpu_supports("x86-64-v4") && at::get_cpu_capability() == "AVX512";
  return has;
#else
  return false;
#endif
}

/// exp to about one unit in the last place (Cephes' polynomial) of numbers up to 88; below -87 it stays at its value.
MLA_INLINE float vector_exp_to_88(float x) {
  constexpr float kToInteger = 12582912.0F;  // 1.5 * 2^23: adding it rounds to whole numbers
  x = x < -87.0F ? -87.0F : x;
  const float shifted = x * 1.44269504088896341F + kToInteger;
  const float n = shifted - kToInteger;
  const float r = x - n * 0.693359375F + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  return p * std::bit_cast<float>((std::bit_cast<std::uint32_t>(shifted) << 23) + 0x3F800000U);
}
MLA_INLINE double vector_exp_to_88(double x) { return std::exp(x); }
/// The same for all numbers: above 88 it stays at its value.
MLA_INLINE float vector_exp(float x) { return vector_exp_to_88(x > 88.0F ? 88.0F : x); }
MLA_INLINE double vector_exp(double x) { return std::exp(x); }

/// Calls work(begin, end) for parts of `rows` rows, each of about `operations` operations, on all threads.
template <class Work>
void for_rows(std::int64_t rows, std::int64_t operations, const Work& work) {
  at::parallel_for(0, rows, std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, operations)), work);
}

/// Pieces of work 0 … count - 1 that threads take as they get to them, so that one that the machine holds up does not
/// hold up the others. What is computed must not depend on who takes what.
class Turns {
 public:
  explicit Turns(std::int64_t count) : count_(count) {}
  /// The next piece; false when all are taken.
  bool take(std::int64_t& piece) {
    piece = next_.fetch_add(1, std::memory_order_relaxed);
    return piece < count_;
  }

 private:
  std::int64_t count_;
  std::atomic<std::int64_t> next_{0};
};

/// Calls work(turns) on every thread that has something to take.
template <class Work>
void in_turns(std::int64_t count, const Work& work) {
  Turns turns(count);
  at::parallel_for(0, count, 1, [&](std::int64_t, std::int64_t) { work(turns); });
}

/// Calls work with a null pointer of the tensor's element type; it reads the host's memory.
template <class Work>
void with_type(const at::Tensor& x, const Work& work) {
  expects(x.is_cpu(), "kernels take tensors of the CPU");
  if (x.scalar_type() == at::kFloat) {
    work(static_cast<float*>(nullptr));
  } else {
    work(static_cast<double*>(nullptr));
  }
}

}  // namespace mla
