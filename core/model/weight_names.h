// Under which names a file's tensors belong to a model.
#pragma once

#include <string>

#include "core/model/safetensors.h"

namespace mla {

/// `weights` under the names of a causal language model. Files of a model without its output layer (embedding models,
/// say) leave "model." out, which is added, as transformers does. Throws DataError, with `where` for the source, for
/// names that torch.compile's wrapper has changed: no library would find those weights.
WeightMap with_usual_names(WeightMap weights, const std::string& where);

/// "; the file holds … instead", for an error about a missing tensor; empty for no weights.
std::string what_is_there(const WeightMap& weights, const std::string& missing);

}  // namespace mla
