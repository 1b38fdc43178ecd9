// What a pass that goes layer by layer is given for each of them.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/compress/calibration/layer_walk.h"
#include "core/compress/pass.h"

namespace mla {

/// Of which model a layer's inputs are measured.
enum class MeasuredInputs {
  kFound,      ///< the model as the pass found it: one calibration for all layers, which cells share
  kConverted,  ///< the layers before as the pass has left them (CARE, arXiv 2603.17946, "sequential")
};
inline std::vector<std::pair<std::string, MeasuredInputs>> enum_names(MeasuredInputs) {
  return {{"found", MeasuredInputs::kFound}, {"converted", MeasuredInputs::kConverted}};
}

inline constexpr const char* kMeasuredInputsHelp =
    "what layers are measured on: found (the model as the pass finds it) | converted (layers before as it leaves them)";

/// The inputs of a pass, with the statistics of one layer after the other.
class LayerInputs {
 public:
  /// `inputs` and `requirements` are referred to.
  LayerInputs(const Decoder& decoder, const PassInputs& inputs, const Requirements& requirements,
              MeasuredInputs measured);

  /// Those of `layer`, which ascends from call to call; the layers before it are what the pass has made of them.
  const PassInputs& of(std::int64_t layer);

 private:
  PassInputs inputs_;
  const Requirements& requirements_;
  std::optional<LayerWalk> walk_;
  Statistics own_;
};

}  // namespace mla
