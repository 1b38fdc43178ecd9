// Which rotation of a layer's keys survives: linear maps of queries and keys into rotated dims and position-free ones.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
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

/// Pair indices, into the model's frequencies, of each rotated key of a layer: one list for each KV head, whose query
/// heads follow it, or a single one for a rotated key that all heads share. Pair 0 rotates fastest.
using KeptPairs = std::vector<std::vector<std::int64_t>>;

/// Shapes of a rotation, known before anything is measured.
struct RotationShape {
  std::int64_t pairs = 0;          ///< of each rotated key
  bool shared = false;             ///< one rotated key for all heads, instead of one for each KV head
  std::int64_t content_width = 0;  ///< position-free dims of a query or key head
};

/// The rotation of one layer. Pair p of a head is its dims p and p + head_dim / 2.
///
/// Where it picks pairs, the maps are undefined: rotated dims are the pairs' first dims, then their partners, and the
/// position-free ones are all others, ascending. Otherwise a query head's new dims are `query` times its old ones,
/// rotated ones first (first dims, then partners), and keys are linear in the old keys of all KV heads together.
struct KeyRotation {
  KeptPairs kept;
  at::Tensor query;     ///< float64 [heads, rotated + content width, head_dim]
  at::Tensor rope_key;  ///< float64 [rotated keys * rotated width, kv_heads * head_dim]
  at::Tensor content;   ///< float64 [kv_heads * content width, kv_heads * head_dim]

  bool picks() const { return !query.defined(); }
};

/// What calibration data says of one layer, by the names of the statistics that were asked for.
using LayerMeasures = std::map<std::string, at::Tensor>;

/// A partial-RoPE strategy. Registered by name.
class RotationStrategy {
 public:
  static constexpr const char* kKind = "rope";
  virtual ~RotationStrategy() = default;

  /// The statistics that rotation() needs, as core/compress/requirement.h names them: "key.pair_norms".
  virtual std::vector<std::string> measures() const { return {}; }

  /// Throws ConfigError (with `path` in front) when the options do not fit the geometry.
  virtual void check(const HeadGeometry& geometry, const std::string& path) const = 0;

  virtual RotationShape shape(std::int64_t layer, const HeadGeometry& geometry) const = 0;

  /// Whether dims are mixed and not picked, which QK-norm does not survive.
  virtual bool mixes_dims() const { return false; }

  /// The rotation of `layer`. Throws DataError for measures that are not finite, std::logic_error for missing ones.
  virtual KeyRotation rotation(std::int64_t layer, const HeadGeometry& geometry,
                               const LayerMeasures& measured) const = 0;
};

}  // namespace mla
