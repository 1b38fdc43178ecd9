// Statistics of a model's queries and keys on calibration data.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/model/decoder.h"
#include "core/partial_rope/selector.h"

namespace mla {

/// What passes may ask of the data. Reusable: it depends on the source model and the calibration rows only.
struct CalibrationStatistics {
  std::vector<PairNorms> layers;  ///< one per layer; empty where a layer makes no keys of its own
  std::int64_t tokens = 0;        ///< tokens averaged over
};

/// How much work one step of calibration takes on.
struct CalibrationOptions {
  std::int64_t batch_tokens = 4096;  ///< tokens per forward pass; more need more memory
};

/// Runs `rows` of token ids through the model and averages the 2-norm of each rotation pair of queries and keys over
/// all tokens, in float64 (MHA2MLA appendix A). Norms are taken where queries and keys enter the rotation: after
/// biases and, where the family has it, QK-norm. No logits are computed. `progress(tokens)` is told of each batch.
/// Throws DataError for no rows, an empty row, or an id outside the vocabulary.
CalibrationStatistics calibrate(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                                const CalibrationOptions& options, const std::function<void(std::int64_t)>& progress);

}  // namespace mla
