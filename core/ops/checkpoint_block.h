// Trading time for memory: a part of a network whose insides are computed again for the gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>

namespace mla {

/// block(x), of which only x is kept; the backward pass runs `block` once more (arXiv 1604.06174). Parameters that
/// `block` uses receive their gradients then. x must require a gradient, `block` must outlive the backward pass with
/// all that it refers to, and compute the same each time.
at::Tensor checkpoint_block(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> block);

}  // namespace mla
