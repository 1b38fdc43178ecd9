// Whether a model can keep its cache as a config says, found out before any weight is read.
#pragma once

#include <string>

#include "core/model/model_spec.h"
#include "experiments/cache/cache_format.h"

namespace mla {

/// Tokens that will be cached: those of the first call, and all of them.
struct CachedTokens {
  std::int64_t prompt = 1, all = 1;
};

/// Throws ConfigError naming `path`, layer and stream where a codec cannot encode what the model's streams hold, with
/// the sizes of groups that fit; codecs that encode everything anew are asked for each number of tokens that will come.
void check_cache(const CacheConfig& config, const ModelSpec& spec, const CachedTokens& tokens, const std::string& path);

/// Throws ConfigError when the config's codec needs a calibration and `given` says that there is none; `help` says how
/// to name one.
void check_calibration(const CacheConfig& config, bool given, const std::string& path, const std::string& help);

}  // namespace mla
