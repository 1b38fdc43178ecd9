// What was cached on another device, where nobody waits to see whether it has a code.
#pragma once

#include "core/kv_cache/layer_cache.h"

namespace mla {

/// Throws DataError naming stream, sequence, tokens and place for what a codec could not hold: no numbers, and values
/// beyond what its scales can tell. On the host that was told when it was encoded, and this does nothing; elsewhere it
/// waits for the device. Whoever reads what was computed through the cache calls it: until then such tokens come back
/// as no finite numbers.
void expect_sound(const LayerCache& cache);

}  // namespace mla
