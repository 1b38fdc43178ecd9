#include "experiments/cell/measure_cache.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"

namespace mla {

CacheRecord measure_cache(const Decoder& decoder, const std::string& stage) {
  const c10::InferenceMode inference;
  CacheRecord cache;
  cache.stage = stage;
  cache.tokens = std::min<std::int64_t>(64, decoder.spec().max_positions);
  cache.predicted_bytes = cached_elements(decoder.spec());
  cache.predicted_bytes *= cache.tokens * static_cast<std::int64_t>(c10::elementSize(decoder.compute_dtype));
  DecoderCache buffers = decoder.make_cache(1);
  decoder.forward_cached(at::zeros({1, cache.tokens}, decoder.options().dtype(at::kLong)), buffers);
  cache.counted_bytes = buffers.bytes();
  expects(cache.counted_bytes == cache.predicted_bytes,
          "the cache's buffers hold another number of bytes than predicted");
  cache.predicted_weight_bytes = decoder.predicted_weight_bytes();
  cache.counted_weight_bytes = decoder.weight_bytes();
  expects(cache.counted_weight_bytes == cache.predicted_weight_bytes,
          "the weights' buffers hold another number of bytes than predicted");
  return cache;
}

}  // namespace mla
