#include "core/compress/calibration/layer_inputs.h"

namespace mla {

LayerInputs::LayerInputs(const Decoder& decoder, const PassInputs& inputs, const Requirements& requirements,
                         MeasuredInputs measured)
    : inputs_(inputs), requirements_(requirements) {
  if (measured == MeasuredInputs::kFound) return;
  walk_.emplace(decoder, *inputs.rows, CalibrationOptions{});
  // Decompositions of what is measured here are of this cell's layers alone.
  inputs_.store = nullptr;
}

const PassInputs& LayerInputs::of(std::int64_t layer) {
  if (!walk_) return inputs_;
  while (walk_->layer() < layer) walk_->advance();
  own_ = walk_->statistics(requirements_);
  inputs_.statistics = &own_;
  return inputs_;
}

}  // namespace mla
