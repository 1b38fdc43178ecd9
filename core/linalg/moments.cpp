#include "core/linalg/moments.h"

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace mla {

void StreamingMean::add(const at::Tensor& batch) {
  expects(batch.dim() >= 1, "a batch has a token dimension");
  const at::Tensor sum = at::sum(batch, at::IntArrayRef{0}, false, at::kDouble);
  expects(!sum_.defined() || sum_.sizes() == sum.sizes(), "batches of one mean have one shape");
  sum_ = sum_.defined() ? sum_ + sum : sum;
  count_ += batch.size(0);
}

at::Tensor StreamingMean::mean() const {
  expects(count_ > 0, "the mean of no tokens");
  return sum_ / static_cast<double>(count_);
}

}  // namespace mla
