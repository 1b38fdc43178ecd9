// The bytes of a model's cache and weights.
#pragma once

#include <string>

#include "core/model/decoder.h"
#include "core/store/record.h"

namespace mla {

/// Bytes that the model's cache holds after some tokens, and its weights: predicted from shapes, and counted in
/// buffers.
CacheRecord measure_cache(const Decoder& decoder, const std::string& stage);

}  // namespace mla
