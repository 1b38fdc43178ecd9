// Calibration of models larger than memory.
#pragma once

#include <cstdint>
#include <functional>

#include "core/compress/calibration/statistics.h"

namespace mla {

/// Whether calibrate_by_layer() can gather these: no gradients, nothing that spans layers or stands behind the last.
bool can_calibrate_by_layer(const Requirements& requirements);

/// Bytes of the hidden states that it holds for these rows.
std::int64_t state_bytes(const Decoder& decoder, const TokenRowList& rows);

/// What calibrate() gathers, to the bit, in another order of work: all rows go through one layer before the next is
/// looked at, so that one layer's weights and reducers are in memory at a time, and the hidden states of all rows.
/// `keep` is given each statistic as soon as it is final, and says what stands for it from then on. `progress(tokens)`
/// is told of each batch and layer. Throws as calibrate() does.
Statistics calibrate_by_layer(const Decoder& decoder, const TokenRowList& rows, const Requirements& requirements,
                              const CalibrationOptions& options,
                              const std::function<at::Tensor(const at::Tensor&)>& keep,
                              const std::function<void(std::int64_t)>& progress);

}  // namespace mla
