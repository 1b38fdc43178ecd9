#include "core/low_rank/factorizer.h"

namespace mla {

std::int64_t Factorizer::parameters(std::int64_t layer, const FactorGeometry& geometry) const {
  const LatentShape latent = shape(layer, geometry);
  std::int64_t count = latent.width * geometry.hidden;
  if (latent.key_up) count += geometry.nope_rows(layer) * latent.key.width;
  if (latent.value_up) count += geometry.value_rows() * latent.value.width;
  return count;
}

}  // namespace mla
