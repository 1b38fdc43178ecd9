// The language-model loss and its gradient.
#pragma once

#include "core/model/decoder.h"
#include "core/train/batches.h"

namespace mla {

/// Adds scale * d(sum of -log p(target) over the batch's scored positions) / d(parameter) to the gradient of every
/// parameter that requires one, and returns the sum itself (nats). With scale = 1 / (scored positions of a whole step)
/// the parts of a step add up to the gradient of its mean loss, however unequal they are.
/// Logits are made and differentiated for a chunk of positions at a time: at most `logit_elements` of them, or one
/// position's, exist at once (the softmax and the gradient take as much again each).
double accumulate_gradients(const Decoder& decoder, const Batch& batch, double scale,
                            std::int64_t logit_elements = std::int64_t{1} << 24);

}  // namespace mla
