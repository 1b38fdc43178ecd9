// What a training step keeps in memory besides weights, gradients and optimizer states, by a rehearsal.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/model_spec.h"
#include "core/ops/products.h"
#include "core/train/trainer.h"

namespace mla {

/// Bytes of a forward and backward pass over float32 weights, as processors compute it.
struct StepMemory {
  /// By group of layers that hand things on to each other, of which most models have one a layer: what it leaves for
  /// its gradient, its output included.
  std::vector<std::int64_t> kept;
  std::vector<std::int64_t> transient;  ///< what the backward pass of a group takes besides, likewise
  std::int64_t around = 0;              ///< embedded tokens, final states and their gradient
  std::int64_t logits = 0;              ///< of the positions that are scored at a time
};

/// Runs one group of each kind, with its real heads and a narrow feed-forward part, over a few tokens and counts: what
/// is kept grows with tokens alone. Takes the memory of a layer's attention weights, twice; with adapters, of all its
/// weights. Throws ConfigError for
/// layers that cannot be trained.
StepMemory rehearse_step(const ModelSpec& spec, const TrainOptions& options, std::int64_t tokens,
                         Products products = Products::kFloat32);

}  // namespace mla
