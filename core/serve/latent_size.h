// How large the latents of a model are on text.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/model/decoder.h"

namespace mla {

/// The largest root mean square of a token's latent over all layers, for rows of ids; 0: no layer has
/// a latent. `advance` is called with the tokens of each row.
double measure_latents(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                       const std::function<void(std::int64_t)>& advance);

}  // namespace mla
