// Tensors of the official MHA2MLA code, by the names and in the order that layers of kind `latent` have.
#pragma once

#include <string>

#include "core/base/json.h"
#include "core/model/model_spec.h"
#include "core/model/safetensors.h"

namespace mla {

/// `spec` is what read_mha2mla_config() made of `config`. Throws DataError naming `name` and the tensor for one that is
/// missing or has another shape.
WeightMap mha2mla_weights(WeightMap weights, const ModelSpec& spec, const Json& config, const std::string& name);

}  // namespace mla
