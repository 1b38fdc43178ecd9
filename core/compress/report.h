// What a compression will do to a model, and what it did.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/low_rank/factorizer.h"
#include "core/partial_rope/selector.h"

namespace mla {

/// One layer after compression, known from geometry alone.
struct LayerPlan {
  std::int64_t pairs = 0;            ///< rotation pairs kept per KV head
  std::int64_t latent_width = 0;     ///< latent elements per token
  std::int64_t cached_elements = 0;  ///< all cached elements per token
  std::int64_t parameters = 0;       ///< attention parameters, QK-norm weights included
};

/// Shapes, cache and parameters of a compressed model.
struct CompressionPlan {
  std::vector<LayerPlan> layers;
  std::int64_t source_cached_elements = 0;  ///< per token, all layers
  std::int64_t source_parameters = 0;       ///< whole model
  std::int64_t parameters = 0;              ///< whole model, after compression

  std::int64_t cached_elements() const;
  /// Cache after over cache before; 1 minus it is the saving of mha2mla's tables (section 1.7 of its cost model).
  double cache_ratio() const;
};

/// One layer as it came out.
struct LayerReport {
  LayerPlan plan;
  KeptPairs kept;
  std::vector<double> singular_values, value_singular_values;
  FactorizationError error;
  double seconds = 0;  ///< selection, decomposition and assembly of this layer
};

/// The outcome of one pass over a model.
struct CompressionReport {
  std::string pass;
  CompressionPlan plan;
  std::vector<LayerReport> layers;
};

}  // namespace mla
