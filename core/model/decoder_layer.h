// The halves of a transformer block, for what runs one without the other.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>

#include "core/model/decoder.h"

namespace mla {

/// What the attention of layer `index` adds to x [batch, length, hidden]. Decoder::apply_layer() is this and the half
/// below, and so are the places that the context's observer is shown.
at::Tensor attention_half(const Decoder& decoder, std::size_t index, const at::Tensor& x, ForwardContext& context);

/// What leaves the layer where `attended` is x and what its attention adds.
at::Tensor feed_forward_half(const Decoder& decoder, std::size_t index, const at::Tensor& attended,
                             ForwardContext& context);

}  // namespace mla
