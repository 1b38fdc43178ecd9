// The latent of a mean-key layer turned so that codes of few bits lose little of it.
#pragma once

#include "core/compress/mean_key/fit.h"

namespace mla {

/// The same layer with other latent elements cached: each one times a factor, and then mixed by an orthogonal matrix,
/// folded into the maps around them. Mixed elements are alike, so that one step of a code fits all of them; with that
/// step in proportion to the root mean square of the factors a, and errors that count w^2 as much as they are large, a
/// layer loses mean(a^2) sum(w^2 / a^2), which is least for a^2 in proportion to w. Slots stay as they are.
void spread_latent(MeanKeyMaps& maps);

}  // namespace mla
