// Root-mean-square normalisation.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// x / sqrt(mean(x^2) + epsilon) * weight over the last dimension (arXiv 1910.07467). `weight` [width] has x's dtype,
/// or a shape that broadcasts against x. Differentiable; keeps x alone for its gradient.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);

}  // namespace mla
