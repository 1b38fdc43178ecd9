// Whether this program's own kernels run.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// False where MLA_KERNELS=off stands in the environment: everything is then computed by LibTorch's operations, as on
/// other devices, to the same numbers but for rounding. Throws ConfigError for a value that is neither on nor off.
bool kernels_are_on();

/// Whether the kernels of this folder serve the tensor; others are left to ATen.
inline bool has_kernels(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble) && kernels_are_on();
}

/// Whether they serve the tensor together with what it is computed with. ATen says what is wrong where that stands
/// elsewhere; a kernel would read memory that is none.
inline bool has_kernels(const at::Tensor& x, const at::Tensor& other) {
  return has_kernels(x) && other.is_cpu() && other.scalar_type() == x.scalar_type();
}

}  // namespace mla
