// What reducers share: the tensors of taps as one row for each token.
#pragma once

#include <ATen/ATen.h>

#include "core/compress/requirement.h"

namespace mla {

/// [batch, length, width], or heads [batch, heads, length, width] one after the other, as float64 [batch * length, …].
inline at::Tensor token_rows(const at::Tensor& shown) {
  const at::Tensor by_token = shown.dim() == 4 ? shown.transpose(1, 2).flatten(2) : shown;
  return by_token.flatten(0, 1).to(at::kDouble);
}

}  // namespace mla
