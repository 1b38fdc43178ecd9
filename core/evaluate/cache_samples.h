// What a model would cache of a text, and how much its loss depends on each element: calibration of cache codecs.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/kv_cache/layer_cache.h"
#include "core/kv_cache/stream.h"
#include "core/model/decoder.h"

namespace mla {

/// By layer and stream.
using CacheSamples = std::map<std::pair<std::int64_t, std::string>, StreamSample>;

struct CacheSampleOptions {
  std::int64_t context = 256;   ///< tokens of a sequence at most
  std::int64_t tokens = 8192;   ///< in all; stops after the sequence that reaches them
  bool before_rotation = true;  ///< keys as they are before their rotation
};

/// Runs the beginning of each sequence through the model and keeps the rows of every stream, with the squared gradients
/// of the sequence's mean loss (the diagonal of the Fisher information, as in KVQuant, arXiv 2401.18079 eq. 6).
/// `progress`, if given, is told of tokens. Throws DataError when no sequence has two tokens.
CacheSamples sample_cache(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& sequences,
                          const CacheSampleOptions& options, const std::function<void(std::int64_t)>& progress = {});

}  // namespace mla
