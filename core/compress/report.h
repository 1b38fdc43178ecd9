// What a pass did to a model.
#pragma once

#include <string>
#include <vector>

#include "core/low_rank/factorizer.h"
#include "core/model/model_spec.h"
#include "core/partial_rope/key_rotation.h"

namespace mla {

/// What a pass did to one layer of the model that it left; empty where there is nothing to tell.
struct LayerReport {
  KeptPairs kept;
  std::vector<double> singular_values, value_singular_values;
  FactorizationError error;
  double seconds = 0;  ///< selection, decomposition and assembly of this layer
};

/// The outcome of one pass over a model.
struct PassReport {
  std::string pass;                 ///< registered name
  ModelSpec before, after;          ///< shapes, cache and parameters follow from these
  std::vector<LayerReport> layers;  ///< one per layer of `after`
};

/// Cache of `after` over that of `before`, per token; 1 minus it is the saving of MHA2MLA's tables.
double cache_ratio(const ModelSpec& before, const ModelSpec& after);

}  // namespace mla
