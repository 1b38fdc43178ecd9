// How the strategies state the width of the latent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/per_layer.h"
#include "core/low_rank/factorizer.h"

namespace mla {

/// Latent elements per token and layer: d_kv per KV head, or `latent` for all heads together, which need not be a
/// multiple of the heads. Part of a strategy's options: call fields() from its own.
struct LatentWidth {
  PerLayer d_kv = 16;
  std::optional<PerLayer> latent;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("d_kv", self.d_kv, "latent elements per KV head: one number, or a list with one per layer");
    visit("latent", self.latent,
          "latent elements of the layer, instead of d_kv: one number, or a list; null: d_kv decides");
  }

  /// Elements per token of `layer`.
  std::int64_t elements(std::int64_t layer, const FactorGeometry& geometry) const;

  /// Throws ConfigError when a list has the wrong length or a width is below 1.
  void check(const FactorGeometry& geometry, const std::string& path) const;

  /// "compress[0].low_rank.d_kv = 40": the value that decides the width of `layer`, for errors.
  std::string describe(const std::string& path, std::int64_t layer) const;
};

}  // namespace mla
