#include "core/compress/calibration/calibrate_by_layer.h"

#include <algorithm>

#include "core/compress/calibration/gathering.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/model/weight_pages.h"

namespace mla {

bool can_calibrate_by_layer(const Requirements& requirements) {
  const auto behind_the_last = [](const Requirement& one) {
    return one.tap == Tap::kFinalState || one.with == Tap::kFinalState;
  };
  if (std::any_of(requirements.begin(), requirements.end(), behind_the_last)) return false;
  const Gathering gathering(requirements);
  return !gathering.gradients() && !gathering.spans_layers();
}

std::int64_t state_bytes(const Decoder& decoder, const TokenRowList& rows) {
  std::size_t tokens = 0;
  for (const auto& row : rows) tokens += row.size();
  return static_cast<std::int64_t>(tokens * c10::elementSize(decoder.compute_dtype)) * decoder.spec().hidden;
}

Statistics calibrate_by_layer(const Decoder& decoder, const TokenRowList& rows, const Requirements& requirements,
                              const CalibrationOptions& options,
                              const std::function<at::Tensor(const at::Tensor&)>& keep,
                              const std::function<void(std::int64_t)>& progress) {
  LayerWalk walk(decoder, rows, options);
  release_weights(decoder, "model.embed_tokens.");
  Statistics all;
  while (!walk.done()) {
    Statistics layer = walk.advance_measured(requirements, progress);
    all.tokens = layer.tokens;
    all.rows_hash = layer.rows_hash;
    for (auto& [key, value] : layer.values) all.values[key] = keep(value);
  }
  return all;
}

}  // namespace mla
