// The log-likelihood of a continuation by its definition: slow and obvious.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "core/evaluate/continuation.h"

namespace mla::test {

/// The sum of log p(token | all before it) over the continuation's tokens, from one full forward pass of its own. A row
/// of more than `positions` inputs loses its first tokens.
inline double direct_log_likelihood(const Decoder& decoder, const Continuation& continuation) {
  const at::NoGradGuard no_grad;
  std::vector<std::int64_t> tokens(continuation.tokens.begin(), continuation.tokens.end());
  const std::int64_t surplus = std::max<std::int64_t>(0, std::ssize(tokens) - 1 - decoder.spec().max_positions);
  tokens.erase(tokens.begin(), tokens.begin() + surplus);
  const at::Tensor ids = at::tensor(tokens, at::kLong).unsqueeze(0);
  const at::Tensor log_probabilities = at::log_softmax(decoder.forward(ids)[0].to(at::kDouble), 1);
  double sum = 0;
  for (std::int64_t at = continuation.context - surplus; at < std::ssize(tokens); ++at) {
    sum += log_probabilities[at - 1][tokens[static_cast<std::size_t>(at)]].item<double>();
  }
  return sum;
}

}  // namespace mla::test
