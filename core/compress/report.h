// What a pass did to a model.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/low_rank/factorizer.h"
#include "core/model/model_spec.h"
#include "core/partial_rope/key_rotation.h"

namespace mla {

/// What training a layer by itself did for its output. Errors are relative: squared differences from the source's
/// output over its squared size.
struct LayerFitReport {
  double before = 0, after = 0;
  std::string judged_on;                       ///< "held_out" or "fitted": the rows on which errors are measured
  std::int64_t rows = 0;                       ///< as many
  bool kept = false;                           ///< whether what was fitted was taken: it is where it is better
  std::int64_t tokens = 0, unique_tokens = 0;  ///< seen in all steps, and different ones of them
};

/// What a pass did to one layer of the model that it left; empty where there is nothing to tell.
struct LayerReport {
  KeptPairs kept;
  std::vector<double> singular_values, value_singular_values;
  FactorizationError error;
  std::optional<LayerFitReport> fit;
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
