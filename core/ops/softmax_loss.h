// Losses on logits, with their gradient computed in place.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// What a row of logits is compared with, and how much each comparison counts.
struct SoftmaxLoss {
  double cross_entropy = 1;  ///< weight of -log p(target)
  double distillation = 0;   ///< weight of T^2 KL(teacher || student) at temperature T (arXiv 1503.02531)
  double temperature = 1;
};

/// Sum over rows of the weighted losses, of `logits` [rows, vocabulary] against `targets` int64 [rows] and, where
/// distillation counts, `teacher` logits of the same shape and dtype. Overwrites `logits` with `scale` times the sum's
/// gradient. Computed in float32 at least, whatever the dtype. The sum is one float64 where the logits stand: reading
/// it waits for them.
at::Tensor softmax_loss_gradient(at::Tensor& logits, const at::Tensor& targets, const at::Tensor& teacher,
                                 const SoftmaxLoss& loss, double scale);

/// -log p(target) of each row of `logits` [rows, vocabulary], for `targets` int64 [rows]: [rows], in float32,
/// or in float64 for float64 logits: never rounded to a narrower dtype of the logits.
at::Tensor softmax_nll(const at::Tensor& logits, const at::Tensor& targets);

}  // namespace mla
