// Negative log-likelihoods of single tokens.
#pragma once

#include "core/model/decoder.h"

namespace mla {

/// -log p(target) in nats for final hidden states [..., hidden] and targets [...], int64; same shape as the targets, in
/// float32, or float64 for float64 hidden states. Logits are made for a chunk of positions at a time: at most
/// `logit_elements` of them, or one position's, exist at once. No gradient.
at::Tensor target_nll(const Decoder& decoder, const at::Tensor& hidden, const at::Tensor& targets,
                      std::int64_t logit_elements = std::int64_t{1} << 24);

/// The same with, for each target, whether its logit is the row's largest: what greedy decoding would choose (where
/// several are equally large, any of them).
struct TargetScores {
  at::Tensor nll, likeliest;  ///< in float32 or float64, and bool
};
TargetScores target_scores(const Decoder& decoder, const at::Tensor& hidden, const at::Tensor& targets,
                           std::int64_t logit_elements = std::int64_t{1} << 24);

/// -log p(ids[t + 1] | ids[0..t]) for ids [batch, length], int64: [batch, length - 1], empty for a single token. No
/// gradient.
at::Tensor token_nll(const Decoder& decoder, const at::Tensor& ids);

}  // namespace mla
