// How a cache is stored, as configs and options say it.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/identity.h"
#include "core/base/json.h"
#include "core/evaluate/cache_samples.h"
#include "core/kv_cache/layer_cache.h"
#include "core/kv_cache/stream.h"

namespace mla {

struct CacheConfig {
  Json codec;
  Json rope_codec;
  UpdateRule update = UpdateRule::kAppendOnly;
  std::int64_t residual = 128;
  std::int64_t first_tokens = 0;

  static StrategyFields strategies();
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("codec", self.codec,
          "of keys, values and latents: {\"name\": \"rtn\", \"bits\": 4, …}; null: stored as they are");
    visit("rope_codec", self.rope_codec, "of the rotated keys of latent attention; null: stored as they are");
    visit("update", self.update, "what happens to codes when tokens arrive: append_only | requantize");
    visit("residual", self.residual, "newest tokens kept as they are");
    visit("first_tokens", self.first_tokens, "oldest tokens kept as they are");
  }

  /// Throws ConfigError for a codec that does not exist or options it does not have.
  void validate(const std::string& path) const;
  bool is_plain() const { return codec.is_null() && rope_codec.is_null(); }
  /// "float32", or the codecs' names and bits: "rtn4".
  std::string label() const;
};

/// The storage that the config describes; empty where everything is stored as it is. Codecs that need a calibration
/// take it from `samples`; throws ConfigError where it is missing.
CacheFormat cache_format(const CacheConfig& config, const std::string& path, CacheSamples samples = {});

/// Whether one of the config's codecs needs samples of what it will store.
bool needs_calibration(const CacheConfig& config);

/// Reads a config from an option: a JSON object, a .json file, a codec's name and bits ("hqq", "kivi2"), or
/// "plain". Errors name `option`.
CacheConfig parse_cache_config(const std::string& text, const std::string& option);

}  // namespace mla
