#include "core/low_rank/latent_width.h"

#include "core/base/error.h"

namespace mla {

std::int64_t LatentWidth::elements(std::int64_t layer, const FactorGeometry& geometry) const {
  const auto index = static_cast<std::size_t>(layer);
  return latent ? latent->at(index) : geometry.kv_heads * d_kv.at(index);
}

void LatentWidth::check(const FactorGeometry& geometry, const std::string& path) const {
  const PerLayer& stated = latent ? *latent : d_kv;
  stated.check_length(path + (latent ? ".latent" : ".d_kv"), static_cast<std::size_t>(geometry.layers));
  for (std::int64_t layer = 0; layer < geometry.layers; ++layer) {
    if (stated.at(static_cast<std::size_t>(layer)) < 1)
      throw ConfigError(cat(describe(path, layer), ": must be at least 1"));
  }
}

std::string LatentWidth::describe(const std::string& path, std::int64_t layer) const {
  const auto index = static_cast<std::size_t>(layer);
  return latent ? latent->describe(path + ".latent", index) : d_kv.describe(path + ".d_kv", index);
}

}  // namespace mla
