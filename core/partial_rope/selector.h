// Partial RoPE by picking rotation pairs: what the strategies of MHA2MLA have in common.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/partial_rope/key_rotation.h"

namespace mla {

/// What calibration data says of one layer: the mean over all tokens of the 2-norm of each rotation pair (dims k and
/// k + head_dim/2) of queries and keys before rotation. Rotation does not change these norms.
struct PairNorms {
  std::vector<std::vector<double>> query;  ///< [heads][head_dim / 2]
  std::vector<std::vector<double>> key;    ///< [kv_heads][head_dim / 2]
};

/// The names of the statistics that they are read from.
inline constexpr const char *kQueryNorms = "query.pair_norms", *kKeyNorms = "key.pair_norms";

/// Norms from statistics of those names; nothing where one is missing.
PairNorms pair_norms(const LayerMeasures& measured);

/// A strategy that picks pairs (MHA2MLA section 3.1). Every KV head of a layer keeps the same number of pairs.
class RopeSelector : public RotationStrategy {
 public:
  /// Whether select() needs norms measured on data.
  virtual bool needs_norms() const { return false; }

  /// How many pairs each KV head of `layer` keeps: known before any calibration, so that shapes can be planned.
  virtual std::int64_t pairs(std::int64_t layer, const HeadGeometry& geometry) const = 0;

  /// The kept pairs of `layer`, ascending; `norms` may be null unless needs_norms(). Throws DataError for norms that
  /// are not finite.
  virtual KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms* norms) const = 0;

  std::vector<std::string> measures() const final;
  RotationShape shape(std::int64_t layer, const HeadGeometry& geometry) const final;
  KeyRotation rotation(std::int64_t layer, const HeadGeometry& geometry, const LayerMeasures& measured) const final;
};

}  // namespace mla
