// Whether a model can keep its cache as a config says, found out before any weight is read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/compress/report.h"
#include "core/model/geometry.h"
#include "experiments/cache/cache_format.h"

namespace mla {

/// What each layer caches.
using LayerStreams = std::vector<std::vector<StreamShape>>;

/// Of a model as it lies on the disk, converted or not. Throws DataError as load_geometry() does.
LayerStreams streams_of_model(const std::filesystem::path& model, const Geometry& geometry);

/// Of a model that is not converted, and of one that passes will make of it.
LayerStreams streams_of(const Geometry& geometry);
LayerStreams streams_of(const Geometry& geometry, const CompressionPlan& plan);

/// Tokens that will be cached: those of the first call, and all of them.
struct CachedTokens {
  std::int64_t prompt = 1, all = 1;
};

/// Throws ConfigError naming `path`, layer and stream where a codec cannot encode what the streams hold, with the sizes
/// of groups that fit; codecs that encode everything anew are asked for each number of tokens that will come.
void check_cache(const CacheConfig& config, const LayerStreams& layers, const CachedTokens& tokens,
                 const std::string& path);

/// Throws ConfigError when the config's codec needs a calibration and `given` says that there is none; `help` says how
/// to name one.
void check_calibration(const CacheConfig& config, bool given, const std::string& path, const std::string& help);

}  // namespace mla
