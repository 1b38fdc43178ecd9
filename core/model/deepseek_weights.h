// Tensors of model type deepseek_v3, by the names and in the order that layers of kind `latent` have.
#pragma once

#include <string>

#include "core/model/deepseek_config.h"
#include "core/model/safetensors.h"

namespace mla {

/// `spec` and `file` are what read_deepseek_config() made of the config beside them. Throws DataError naming `name` and
/// the tensor for one that is missing or has another shape, and for what no layer of that kind computes: queries of a
/// low rank that are normalised (unless their norm changes nothing), and a bias of a normalised latent.
WeightMap deepseek_weights(WeightMap weights, const ModelSpec& spec, const DeepSeekFile& file, const std::string& name);

}  // namespace mla
