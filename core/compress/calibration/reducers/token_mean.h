// What reducers share: the tensors of taps as one row for each token, and means over tokens.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "core/compress/requirement.h"

namespace mla {

/// [batch, length, width], or heads [batch, heads, length, width] one after the other, as float64 [batch * length, …].
inline at::Tensor token_rows(const at::Tensor& shown) {
  const at::Tensor by_token = shown.dim() == 4 ? shown.transpose(1, 2).flatten(2) : shown;
  return by_token.flatten(0, 1).to(at::kDouble);
}

/// The mean over all tokens of something that each token has.
class TokenMean : public Reducer {
 public:
  void add(const std::vector<at::Tensor>& batch) final {
    const at::Tensor sum = sum_over_tokens(batch);
    sum_ = sum_.defined() ? sum_ + sum : sum;
  }
  at::Tensor result(std::int64_t tokens) const final { return sum_ / static_cast<double>(tokens); }

 private:
  /// Of one batch, float64.
  virtual at::Tensor sum_over_tokens(const std::vector<at::Tensor>& batch) const = 0;

  at::Tensor sum_;
};

}  // namespace mla
