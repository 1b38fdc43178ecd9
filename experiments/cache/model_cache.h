// The storage of its cache that a model's folder states, and the bytes that it comes to.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <filesystem>

#include "core/model/decoder.h"
#include "experiments/cache/cache_format.h"

namespace mla {

/// Beside config.json: a `"cache"` block of configs, which `--cache FILE` of commands takes as well.
inline constexpr const char* kModelCacheFile = "cache.json";

/// What the folder states; everything as it is where it has no such file, or `model` is no folder.
CacheConfig cache_of_model(const std::filesystem::path& model);

/// Writes it into the model's folder; one that stores everything as it is leaves no file there.
void write_cache_of_model(const std::filesystem::path& folder, const CacheConfig& config);

/// Bytes of a cache of one sequence of `tokens` tokens.
struct CacheBytes {
  std::int64_t predicted = 0;  ///< from shapes and lengths
  std::int64_t counted = 0;    ///< in the buffers
};

/// For layers of these kinds, streams stored as `format` says (empty: as they are, in `like`'s number type).
CacheBytes count_cache_bytes(const ModelSpec& spec, const CacheFormat& format, std::int64_t tokens,
                             const at::TensorOptions& like);

}  // namespace mla
