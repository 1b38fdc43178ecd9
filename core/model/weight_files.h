// The files of a model folder that hold its weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/model/safetensors.h"
#include "core/model/safetensors_writer.h"

namespace mla {

inline constexpr const char* kWeightsFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

/// The name of shard `index` of `count`: kWeightsFile where it is the only one.
std::string shard_name(std::size_t index, std::size_t count);

/// The tensors of model.safetensors, or of the shards that model.safetensors.index.json names: each from the shard that
/// its weight_map gives it, whatever else the shards hold under its name.
/// Throws DataError for an index that is malformed, names files outside the folder or files without the tensors, for
/// tensors that it does not name, and for a folder whose weights have another form, with what converts it.
WeightMap read_weight_files(const std::filesystem::path& folder);

/// Writes what read_weight_files() reads: model.safetensors, or where that would hold more than `most` bytes of
/// weights, shards of at most so many (a larger tensor gets one of its own) with their index. Tensors are asked for one
/// at a time. `before_rename` is called when all is written under other names and the old files still stand; afterwards
/// weights of an earlier model are gone. Throws DataError for what cannot be written; then the old files stay.
void write_weight_files(const std::filesystem::path& folder, const std::vector<TensorSource>& tensors,
                        std::int64_t most, const std::function<void()>& before_rename);

/// Throws DataError where `folder` holds a LoRA adapter, which would change the model's function and is not applied.
void refuse_adapter(const std::filesystem::path& folder);

}  // namespace mla
