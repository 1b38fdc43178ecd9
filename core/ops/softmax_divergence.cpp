#include "core/ops/softmax_divergence.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include "core/ops/vector_math.h"

namespace mla {
namespace {

struct RowDivergence {
  double kl, reference_nll, nll, agrees;
};

/// log sum exp of a row, and the place of its first largest entry.
template <class T>
MLA_INLINE T log_sum_exp(const T* row, std::int64_t count, std::int64_t& largest) {
  T most = row[0], sum = 0;
#pragma omp simd reduction(max : most)
  for (std::int64_t j = 0; j < count; ++j) most = row[j] > most ? row[j] : most;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < count; ++j) sum += vector_exp(row[j] - most);
  for (largest = 0; largest + 1 < count && row[largest] != most;) ++largest;
  return most + std::log(sum);
}

/// d - 1 + exp(-d) for |d| <= kSmall, where the terms nearly cancel: their series up to d^13.
template <class T>
MLA_INLINE T excess(T d) {
  T sum = T(-1) / 13;
  for (int n = 12; n >= 3; --n) sum = (T(1) + d * sum) * (T(-1) / static_cast<T>(n));
  return (T(1) + d * sum) * d * d / 2;
}

template <class T>
MLA_INLINE RowDivergence compare(const T* reference, const T* row, std::int64_t target, std::int64_t count) {
  constexpr T kSmall = T(0.25);
  std::int64_t expected = 0, found = 0;
  const T reference_lse = log_sum_exp(reference, count, expected), lse = log_sum_exp(row, count, found);
  T kl = 0;
#pragma omp simd reduction(+ : kl)
  for (std::int64_t j = 0; j < count; ++j) {
    const T log_p = reference[j] - reference_lse, log_q = row[j] - lse, d = log_p - log_q;
    const T p = vector_exp(log_p), q = vector_exp(log_q);
    const bool small = d < kSmall && d > -kSmall;
    const T series = p * excess(small ? d : T(0)), plain = p * (d - 1) + q;
    kl += small ? series : plain;
  }
  return {static_cast<double>(kl), static_cast<double>(reference_lse - reference[target]),
          static_cast<double>(lse - row[target]), expected == found ? 1.0 : 0.0};
}

MLA_VECTORISED RowDivergence compare_kernel(const float* reference, const float* row, std::int64_t target,
                                            std::int64_t count) {
  return compare(reference, row, target, count);
}
MLA_VECTORISED RowDivergence compare_kernel(const double* reference, const double* row, std::int64_t target,
                                            std::int64_t count) {
  return compare(reference, row, target, count);
}

/// Through ATen, for other devices and dtypes.
SoftmaxDivergence composed(const at::Tensor& reference, const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor p = reference.to(at::kDouble).log_softmax(1), q = logits.to(at::kDouble).log_softmax(1);
  const at::Tensor index = targets.unsqueeze(1), d = p - q;
  const auto on_cpu = [](const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); };
  return {on_cpu((p.exp() * (d + at::expm1(-d))).sum(1)), on_cpu(-p.gather(1, index).squeeze(1)),
          on_cpu(-q.gather(1, index).squeeze(1)), on_cpu(reference.argmax(1).eq(logits.argmax(1)))};
}

}  // namespace

SoftmaxDivergence softmax_divergence(const at::Tensor& reference, const at::Tensor& logits, const at::Tensor& targets) {
  if (!has_kernels(logits, reference) || !targets.is_cpu()) return composed(reference, logits, targets);
  const std::int64_t rows = logits.size(0), count = logits.size(1);
  const at::Tensor expected = reference.contiguous(), given = logits.contiguous(), wanted = targets.contiguous();
  const auto make = [&] { return at::empty({rows}, at::kDouble); };
  const SoftmaxDivergence result{make(), make(), make(), make()};
  double *kl = result.kl.mutable_data_ptr<double>(), *reference_nll = result.reference_nll.mutable_data_ptr<double>();
  double *nll = result.nll.mutable_data_ptr<double>(), *agrees = result.agrees.mutable_data_ptr<double>();
  const std::int64_t* target = wanted.const_data_ptr<std::int64_t>();
  with_type(logits, [&]<class T>(T*) {
    const T *a = expected.const_data_ptr<T>(), *b = given.const_data_ptr<T>();
    for_rows(rows, 4 * count, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const RowDivergence row = compare_kernel(a + i * count, b + i * count, target[i], count);
        kl[i] = row.kl;
        reference_nll[i] = row.reference_nll;
        nll[i] = row.nll;
        agrees[i] = row.agrees;
      }
    });
  });
  return result;
}

}  // namespace mla
