// Output projections fitted anew to what the source's layers give.
#pragma once

#include <cstdint>

#include "core/compress/calibration/layer_walk.h"

namespace mla {

struct OutputRefitOptions {
  double damping = 1e-3;            ///< share of the features' mean energy that is added to each of them
  std::int64_t skip_positions = 1;  ///< first tokens of each row left out
};

/// Layer by layer, in closed form, the smallest squared difference between what attention adds to the residual stream
/// here, on what the layers before, fitted already, let through, and what the source's layer adds on its own inputs.
/// Attention itself stays as it is, and so do all shapes:
///   W += (T - W F)^T F (F^T F + damping mean diag I)^-1
/// with a row for each token in F, the summed values of all heads (and a one, where the projection has a bias), and in
/// T, the source's output.
class OutputRefit {
 public:
  /// Models are referred to; they have as many layers as each other. Throws as LayerWalk does.
  OutputRefit(Decoder& decoder, const Decoder& source, const TokenRowList& rows, OutputRefitOptions options)
      : decoder_(decoder), theirs_(source, rows, {}), ours_(decoder, rows, {}), options_(options) {}

  /// Fits the next layer, from the first one on.
  void next();
  bool done() const { return ours_.done(); }

 private:
  Decoder& decoder_;
  LayerWalk theirs_, ours_;
  OutputRefitOptions options_;
};

}  // namespace mla
