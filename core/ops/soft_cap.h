// Logits that are kept within bounds (Gemma 2, arXiv 2408.00118).
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// cap * tanh(logits / cap), for a cap > 0.
at::Tensor soft_capped(const at::Tensor& logits, double cap);

/// The derivative of soft_capped() where it gave `capped`: 1 - (capped / cap)^2.
at::Tensor soft_cap_slope(const at::Tensor& capped, double cap);

}  // namespace mla
