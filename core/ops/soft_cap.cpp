#include "core/ops/soft_cap.h"

#include <ATen/ATen.h>

namespace mla {

at::Tensor soft_capped(const at::Tensor& logits, double cap) { return (logits / cap).tanh() * cap; }

at::Tensor soft_cap_slope(const at::Tensor& capped, double cap) { return 1 - (capped / cap).square(); }

}  // namespace mla
