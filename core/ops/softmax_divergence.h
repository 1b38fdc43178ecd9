// How far the distributions of two models' logits are apart.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// One entry per row of logits, double, on the CPU.
struct SoftmaxDivergence {
  at::Tensor kl;             ///< KL(reference || model), nats
  at::Tensor reference_nll;  ///< -log p(target) by the reference, nats
  at::Tensor nll;            ///< the same by the model
  at::Tensor agrees;         ///< 1 where both find the same token likeliest (the first of equals), otherwise 0
};

/// Compares logits [rows, vocabulary] row by row; `targets` int64 [rows]. With p the reference's and q the model's
/// probabilities and d = log p - log q, KL is summed as p (d - 1) + q, whose terms are never negative: rounding does
/// not swallow a small divergence, and equal logits give exactly 0.
SoftmaxDivergence softmax_divergence(const at::Tensor& reference, const at::Tensor& logits, const at::Tensor& targets);

}  // namespace mla
