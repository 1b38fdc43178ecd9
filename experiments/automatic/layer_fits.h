// How long the layers of a found conversion are fitted: as long as pays, and no longer than a user waits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/model/model_spec.h"

namespace mla {

/// Fits that are tried behind a conversion.
struct LayerFits {
  std::int64_t steps = 0;     ///< of each layer; 0: none is tried
  std::vector<double> rates;  ///< learning rates that are tried
  std::string why;            ///< where none is tried
  /// Calibration rows of a step.
  static constexpr std::int64_t kBatchRows = 8;

  /// The passes of one of them, as a config lists them.
  Json passes(double rate) const;
};

/// For a converted model of `spec` and rows of about `length` tokens: `stated` steps, or as many as pay that take no
/// more than some minutes of a core, counted in operations, so that the same are chosen everywhere.
LayerFits plan_layer_fits(const ModelSpec& spec, std::int64_t length, std::optional<std::int64_t> stated);

}  // namespace mla
