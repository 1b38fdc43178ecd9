// Principal components of keys over KV heads and neighbouring frequencies, which no rotation by positions mixes.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/partial_rope/key_rotation.h"

namespace mla {

/// RoRoPE with FreqFold (TransMLA, arXiv 2502.07864): `fold` neighbouring frequencies are taken as one, and of their
/// fold * kv_heads components `fold` / `collapse` stay rotated.
struct HeadFolding {
  std::int64_t collapse = 1;
  std::int64_t fold = 1;
  double damping = 0.01;  ///< share of the keys' mean energy that is added to each direction
};

/// Directions of keys as complex numbers with real weights, at one group of `fold` frequencies, from the second moment
/// E[k k^T] of all KV heads' keys, float64 [kv_heads * head_dim, kv_heads * head_dim]: [kv_heads, fold, kv_heads *
/// fold], orthonormal, those of most energy first. Of each the entry of largest size is positive.
at::Tensor head_components(const at::Tensor& key_moment, const HeadGeometry& geometry, std::int64_t group,
                           const HeadFolding& folding);

/// The maps of keys to the components that do not stay rotated, orthonormal rows float64 [kv_heads * head_dim -
/// head_dim / collapse, kv_heads * head_dim].
at::Tensor removed_components(const at::Tensor& key_moment, const HeadGeometry& geometry, const HeadFolding& folding);

}  // namespace mla
