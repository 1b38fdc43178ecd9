// Fresh weights for a model that is trained from nothing.
#pragma once

#include <cstdint>

#include "core/model/decoder.h"

namespace mla {

/// The usual initializer_range of a config.json.
inline constexpr double kInitializerRange = 0.02;

/// A model of this description in float32. Matrices and embeddings are normal
/// with `deviation`; those that write to the residual stream (o_proj, down_proj) have it divided by
/// sqrt(2 * layers), so that the stream's variance does not grow with depth (GPT-2, Radford et al. 2019, section 2.3).
/// Norms multiply by 1, biases are 0. Each tensor has a random stream of its own, named after it: the same seed gives
/// the same tensor whatever the rest of the model looks like.
Decoder initialize_decoder(const ModelSpec& spec, std::uint64_t seed, double deviation = kInitializerRange);

}  // namespace mla
