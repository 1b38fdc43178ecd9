// How large the files are that a model's weights are written to.
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/model/checkpoint.h"

namespace mla {

/// Weights above this go to several files: five billion bytes, as transformers counts "5GB".
inline constexpr std::int64_t kShardBytes = 5'000'000'000;

/// save_checkpoint(), with weights of more than `shard_bytes` in shards of at most so many beside an index.
void save_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& folder, std::int64_t shard_bytes);

}  // namespace mla
