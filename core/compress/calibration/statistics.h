// Statistics of what passes through a model on calibration data.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "core/compress/calibration/rows.h"
#include "core/compress/requirement.h"
#include "core/model/decoder.h"

namespace mla {

/// What a calibration has gathered of one model: reusable by everything that sees the same model and rows.
class Statistics {
 public:
  /// Tokens that were averaged over.
  std::int64_t tokens = 0;
  /// Stands for the rows, so that work which depends on them is not mixed up with that of others.
  std::string rows_hash;
  std::map<std::pair<Requirement, std::int64_t>, at::Tensor>
      values;  ///< by requirement and layer, float64, on the host

  /// Undefined where the layer does not show the tap; `layer` is kAllLayers for a statistic that spans them. Throws
  /// std::logic_error for what was not gathered anywhere.
  at::Tensor at(const Requirement& requirement, std::int64_t layer) const;
  bool covers(const Requirements& requirements) const;
};

/// Runs `rows` of token ids through the model once and gathers what is required; backward as well, with as much memory
/// as training takes, where gradients are. `progress(tokens)` is told of each batch. Throws as calibration_batches()
/// does, and ConfigError for a reducer that does not fit its taps.
Statistics calibrate(const Decoder& decoder, const TokenRowList& rows, const Requirements& requirements,
                     const CalibrationOptions& options, const std::function<void(std::int64_t)>& progress);

}  // namespace mla
