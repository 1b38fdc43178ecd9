// Trading time for memory: a part of a network whose insides are computed again for the gradient.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

namespace mla {

/// block(x), of which only x is kept; the backward pass runs `block` once more (arXiv 1604.06174). Parameters that
/// `block` uses receive their gradients then. x must require a gradient, `block` must outlive the backward pass with
/// all that it refers to, and compute the same each time. What `presence` gives, if there is one, lives while `block`
/// is computed, and through the gradients of what is computed again: of weights that come and go.
at::Tensor checkpoint_block(const at::Tensor& x, std::function<at::Tensor(const at::Tensor&)> block,
                            std::function<std::shared_ptr<void>()> presence = {});

}  // namespace mla
