// Models whose weights were in parts when training ended in an exception.
#pragma once

#include "core/model/decoder.h"

namespace mla {

/// Where weights of a layer are in other processes (WeightShards), no exchange may put them together any more: whatever
/// would use the layer from now on throws std::logic_error, which says why. Everything else is left as it is.
void give_up_lost_weights(Decoder& decoder);

}  // namespace mla
