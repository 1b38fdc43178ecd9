#include "core/evaluate/sound_cache.h"

#include "core/kv_cache/sound_cache.h"

namespace mla {

void expect_sound(const Decoder& decoder, const DecoderCache& cache) {
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) expect_sound(cache.layer(i));
}

}  // namespace mla
