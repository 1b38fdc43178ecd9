// The files of a model folder that hold its weights.
#pragma once

#include <filesystem>

#include "core/model/safetensors.h"

namespace mla {

inline constexpr const char* kWeightsFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

/// The tensors of model.safetensors, or of the shards that model.safetensors.index.json names: each from the shard that
/// its weight_map gives it, whatever else the shards hold under its name.
/// Throws DataError for an index that is malformed, names files outside the folder or files without the tensors, for
/// tensors that it does not name, and for a folder whose weights have another form, with what converts it.
WeightMap read_weight_files(const std::filesystem::path& folder);

/// Throws DataError where `folder` holds a LoRA adapter, which would change the model's function and is not applied.
void refuse_adapter(const std::filesystem::path& folder);

}  // namespace mla
