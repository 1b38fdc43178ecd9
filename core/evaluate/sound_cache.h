// A model's cache on another device, looked at before what was computed through it is used.
#pragma once

#include "core/model/decoder.h"

namespace mla {

/// Throws DataError for what the codecs of a cache of this model could not hold; see core/kv_cache/sound_cache.h.
void expect_sound(const Decoder& decoder, const DecoderCache& cache);

}  // namespace mla
