// The gated feed-forward network of a decoder layer.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// silu(gate) * up, of one shape.
at::Tensor gated_product(const at::Tensor& gate, const at::Tensor& up);

/// (silu(x gate^T) * (x up^T)) down^T with gate, up [intermediate, hidden], down [hidden, intermediate] in x's dtype.
/// Differentiable; keeps x and the two inner products for its gradient and rebuilds their gated product.
at::Tensor feed_forward(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down);

}  // namespace mla
