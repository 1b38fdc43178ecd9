#include "core/ops/softmax_loss.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <numeric>
#include <vector>

#include "core/ops/vector_math.h"

namespace mla {
namespace {

template <class T>
MLA_INLINE T log_sum_exp(const T* row, std::int64_t count, T inverse_temperature) {
  T most = row[0], sum = 0;
#pragma omp simd reduction(max : most)
  for (std::int64_t j = 0; j < count; ++j) most = row[j] > most ? row[j] : most;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < count; ++j) sum += vector_exp((row[j] - most) * inverse_temperature);
  return most * inverse_temperature + std::log(sum);
}

/// The distance is taken before it is rounded: the two logits may be large and close.
template <class T>
MLA_INLINE double nll(const T* row, std::int64_t target, std::int64_t count) {
  T most = row[0];
#pragma omp simd reduction(max : most)
  for (std::int64_t j = 0; j < count; ++j) most = row[j] > most ? row[j] : most;
  double sum = 0;
  // Float sums of a part at a time: over a whole vocabulary, in few lanes, they lose the last digits.
  constexpr std::int64_t kPart = 256;
  for (std::int64_t begin = 0; begin < count; begin += kPart) {
    const std::int64_t end = begin + kPart < count ? begin + kPart : count;
    T part = 0;
#pragma omp simd reduction(+ : part)
    for (std::int64_t j = begin; j < end; ++j) part += vector_exp(row[j] - most);
    sum += static_cast<double>(part);
  }
  return std::log(sum) + static_cast<double>(most - row[target]);
}

/// One row's loss; the row becomes its gradient, but for the target's -1.
template <class T>
MLA_INLINE double cross_entropy(T* row, std::int64_t target, std::int64_t count, T factor) {
  T most = row[0], sum = 0;
#pragma omp simd reduction(max : most)
  for (std::int64_t j = 0; j < count; ++j) most = row[j] > most ? row[j] : most;
  const double target_logit = static_cast<double>(row[target] - most);
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < count; ++j) {
    row[j] = vector_exp(row[j] - most);
    sum += row[j];
  }
  const T share = factor / sum;
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) row[j] *= share;
  return std::log(static_cast<double>(sum)) - target_logit;
}

/// Both losses; with p = softmax(s / T) and q = softmax(t / T), d(T^2 KL(q || p)) / ds = T (p - q).
template <class T>
MLA_INLINE double mixture(T* row, const T* teacher, std::int64_t target, std::int64_t count, const SoftmaxLoss& loss,
                          T scale) {
  const T inverse = static_cast<T>(1 / loss.temperature), lse = log_sum_exp(row, count, T(1));
  const T student_lse = log_sum_exp(row, count, inverse), teacher_lse = log_sum_exp(teacher, count, inverse);
  const T entropy_factor = static_cast<T>(loss.cross_entropy) * scale;
  const T distillation_factor = static_cast<T>(loss.distillation * loss.temperature) * scale;
  const double target_loss = static_cast<double>(lse - row[target]);
  T gap = 0;
#pragma omp simd reduction(+ : gap)
  for (std::int64_t j = 0; j < count; ++j) {
    const T student_log = row[j] * inverse - student_lse, teacher_log = teacher[j] * inverse - teacher_lse;
    const T q = vector_exp(teacher_log);
    gap += q * (teacher_log - student_log);
    row[j] = entropy_factor * vector_exp(row[j] - lse) + distillation_factor * (vector_exp(student_log) - q);
  }
  return loss.cross_entropy * target_loss +
         loss.distillation * loss.temperature * loss.temperature * static_cast<double>(gap);
}

MLA_VECTORISED double cross_entropy_kernel(float* row, std::int64_t target, std::int64_t count, float factor) {
  return cross_entropy(row, target, count, factor);
}
MLA_VECTORISED double cross_entropy_kernel(double* row, std::int64_t target, std::int64_t count, double factor) {
  return cross_entropy(row, target, count, factor);
}
MLA_VECTORISED double mixture_kernel(float* row, const float* teacher, std::int64_t target, std::int64_t count,
                                     const SoftmaxLoss& loss, float scale) {
  return mixture(row, teacher, target, count, loss, scale);
}
MLA_VECTORISED double mixture_kernel(double* row, const double* teacher, std::int64_t target, std::int64_t count,
                                     const SoftmaxLoss& loss, double scale) {
  return mixture(row, teacher, target, count, loss, scale);
}

MLA_VECTORISED double nll_kernel(const float* row, std::int64_t target, std::int64_t count) {
  return nll(row, target, count);
}
MLA_VECTORISED double nll_kernel(const double* row, std::int64_t target, std::int64_t count) {
  return nll(row, target, count);
}

bool is_narrow(const at::Tensor& tensor) {
  return tensor.scalar_type() != at::kFloat && tensor.scalar_type() != at::kDouble;
}

/// Through ATen, for other devices.
at::Tensor composed(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& teacher, const SoftmaxLoss& loss,
                    double scale) {
  const at::Tensor logs = logits.log_softmax(1), index = targets.unsqueeze(1);
  at::Tensor gradient = logs.exp();
  gradient.scatter_add_(1, index, at::full_like(index, -1, gradient.options()));
  gradient.mul_(loss.cross_entropy);
  at::Tensor sum = logs.gather(1, index).sum(at::kDouble) * -loss.cross_entropy;
  if (loss.distillation != 0) {
    const at::Tensor student = (logits / loss.temperature).log_softmax(1),
                     reference = (teacher / loss.temperature).log_softmax(1);
    const at::Tensor probabilities = reference.exp();
    sum.add_((probabilities * (reference - student)).sum(at::kDouble) *
             (loss.distillation * loss.temperature * loss.temperature));
    gradient.add_(student.exp() - probabilities, loss.distillation * loss.temperature);
  }
  logits.copy_(gradient.mul_(scale));
  return sum;
}

}  // namespace

at::Tensor softmax_loss_gradient(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& teacher,
                                 const SoftmaxLoss& loss, double scale) {
  if (is_narrow(logits)) {
    at::Tensor wide = logits.to(at::kFloat);
    at::Tensor sum =
        softmax_loss_gradient(wide, targets, teacher.defined() ? teacher.to(at::kFloat) : teacher, loss, scale);
    logits.copy_(wide);
    return sum;
  }
  if (!has_kernels(logits) || !targets.is_cpu()) return composed(logits, targets, teacher, loss, scale);
  const std::int64_t rows = logits.size(0), count = logits.size(1);
  std::vector<double> sums(static_cast<std::size_t>(rows));
  const std::int64_t* target = targets.const_data_ptr<std::int64_t>();
  with_type(logits, [&]<class T>(T*) {
    T* data = logits.mutable_data_ptr<T>();
    const T* reference = loss.distillation != 0 ? teacher.const_data_ptr<T>() : nullptr;
    const T factor = static_cast<T>(loss.cross_entropy * scale);
    for_rows(rows, count, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        T* row = data + i * count;
        sums[static_cast<std::size_t>(i)] =
            reference ? mixture_kernel(row, reference + i * count, target[i], count, loss, static_cast<T>(scale))
                      : loss.cross_entropy * cross_entropy_kernel(row, target[i], count, factor);
        row[target[i]] -= factor;
      }
    });
  });
  return at::scalar_tensor(std::accumulate(sums.begin(), sums.end(), 0.0), at::kDouble);
}

at::Tensor softmax_nll(const at::Tensor& logits, const at::Tensor& targets) {
  if (is_narrow(logits)) return softmax_nll(logits.to(at::kFloat), targets);
  if (!has_kernels(logits) || !targets.is_cpu() || !logits.is_contiguous()) {
    return at::cross_entropy_loss(logits, targets, {}, at::Reduction::None);
  }
  const std::int64_t rows = logits.size(0), count = logits.size(1);
  const at::Tensor result = at::empty({rows}, logits.options()), wanted = targets.contiguous();
  const std::int64_t* target = wanted.const_data_ptr<std::int64_t>();
  with_type(logits, [&]<class T>(T*) {
    const T* data = logits.const_data_ptr<T>();
    T* to = result.mutable_data_ptr<T>();
    for_rows(rows, count, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        to[i] = static_cast<T>(nll_kernel(data + i * count, target[i], count));
      }
    });
  });
  return result;
}

}  // namespace mla
