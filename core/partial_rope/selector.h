// Which rotation pairs of each key head keep their rotary position embedding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/per_layer.h"

namespace mla {

/// The head counts of one attention layer.
struct HeadGeometry {
  std::int64_t layers = 0;    ///< layers of the model, for checking per-layer lists
  std::int64_t heads = 0;     ///< query heads
  std::int64_t kv_heads = 0;  ///< key and value heads; heads is a multiple of it
  std::int64_t head_dim = 0;  ///< width of one head; it has head_dim / 2 rotation pairs
};

/// What calibration data says of one layer: the mean over all tokens of the 2-norm of each rotation pair (dims k and
/// k + head_dim/2) of queries and keys before rotation. Rotation does not change these norms.
struct PairNorms {
  std::vector<std::vector<double>> query;  ///< [heads][head_dim / 2]
  std::vector<std::vector<double>> key;    ///< [kv_heads][head_dim / 2]
};

/// Kept pairs of one layer: for each KV head the pair indices, ascending; pair 0 rotates fastest. Query heads of a
/// group use the pairs of their KV head.
using KeptPairs = std::vector<std::vector<std::int64_t>>;

/// A partial-RoPE strategy (MHA2MLA section 3.1). Every KV head of a layer keeps the same number of pairs.
class RopeSelector {
 public:
  static constexpr const char* kKind = "rope";
  virtual ~RopeSelector() = default;

  /// Whether select() needs norms measured on data.
  virtual bool needs_norms() const { return false; }

  /// Throws ConfigError (with `path` in front) when the options do not fit the geometry: pairs > head_dim / 2, a
  /// per-layer list of the wrong length, an explicit list with repeated or impossible pairs.
  virtual void check(const HeadGeometry& geometry, const std::string& path) const = 0;

  /// How many pairs each KV head of `layer` keeps: known before any calibration, so that shapes can be planned.
  virtual std::int64_t pairs(std::int64_t layer, const HeadGeometry& geometry) const = 0;

  /// The kept pairs of `layer`; `norms` may be null unless needs_norms(). Throws DataError for norms that are not
  /// finite.
  virtual KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms* norms) const = 0;
};

}  // namespace mla
