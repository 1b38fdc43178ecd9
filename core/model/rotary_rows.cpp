#include "core/model/rotary_rows.h"

#include <ATen/ATen.h>

namespace mla {

at::Tensor to_half_split(const at::Tensor& weight, std::int64_t head_dim) {
  const std::int64_t columns = weight.dim() == 1 ? 1 : weight.size(1);
  return weight.view({-1, head_dim / 2, 2, columns}).transpose(1, 2).reshape(weight.sizes());
}

at::Tensor to_interleaved(const at::Tensor& weight, std::int64_t head_dim) {
  const std::int64_t columns = weight.dim() == 1 ? 1 : weight.size(1);
  return weight.reshape({-1, 2, head_dim / 2, columns}).transpose(1, 2).reshape(weight.sizes());
}

}  // namespace mla
