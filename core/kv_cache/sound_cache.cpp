#include "core/kv_cache/sound_cache.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/kv_cache/stream.h"
#include "core/quantize/limits.h"

namespace mla {
namespace {

/// Calls `see(packed, where)` with every part that was encoded on another device than the host.
template <class See>
void for_parts_elsewhere(const LayerCache& cache, const See& see) {
  for (std::size_t i = 0; i < cache.streams().size(); ++i) {
    for (std::int64_t row = 0; row < cache.batch() && !cache.is_plain(i); ++row) {
      std::int64_t begin = 0;
      for (const StreamPart& part : cache.parts(i, row)) {
        if (part.packed && !part.packed->codes.is_cpu()) {
          see(used_part(*part.packed), [&] {
            return cat("cache of ", cache.streams()[i].name, ", sequence ", row, ", tokens ", begin, " to ",
                       begin + part.tokens - 1);
          });
        }
        begin += part.tokens;
      }
    }
  }
}

}  // namespace

void expect_sound(const LayerCache& cache) {
  std::vector<at::Tensor> sound;
  for_parts_elsewhere(cache, [&](const Packed& part, const auto&) { sound.push_back(is_sound(part)); });
  if (sound.empty() || at::stack(sound).all().item<bool>()) return;
  for_parts_elsewhere(cache, [](const Packed& part, const auto& where) { expect_sound(part, where()); });
}

}  // namespace mla
