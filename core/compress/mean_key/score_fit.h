// Queries of mean-key layers fitted to the logits of the source ("attention regression").
#pragma once

#include <cstdint>
#include <string>

#include "core/compress/calibration/layer_walk.h"

namespace mla {

struct ScoreFitOptions {
  std::int64_t rows = 64, stride = 8, iterations = 5;
  double damping = 1e-2;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("rows", self.rows,
          "calibration rows that are read, the first ones; 0: all; fewer if they took more than 2 GB");
    visit("stride", self.stride, "every so many-th position of a row is a query that is looked at");
    visit("iterations", self.iterations, "of conjugate gradients");
    visit("damping", self.damping, "share of the mean curvature that holds maps where they are");
  }

  /// Throws ConfigError for numbers out of their range.
  void validate(const std::string& path) const;
};

/// The first rows, as many as are wanted and whose logits and weights of a layer of `source` fit into `most_bytes`:
/// they grow with the square of a row's length. One row at least.
TokenRowList affordable_rows(const ModelSpec& source, const TokenRowList& rows, const ScoreFitOptions& options,
                             double most_bytes);

/// Of a layer of kind `mkla` the maps E_h that take a query of head h to what it asks for, by the least
///   sum_t sum_{s <= t} p_ts (l_ts - q~_t . k_s - mean)^2 + damping mean curvature |E - E_0|^2
/// with p and l the source's attention weights and logits on the source's own inputs, k_s the layer's own key, and the
/// mean over s under p, which the softmax takes no notice of: to second order the divergence of the layer's attention
/// weights from the source's. By preconditioned conjugate gradients in float64, all heads at once.
class ScoreFit {
 public:
  /// Models are referred to; they have as many layers as each other. Throws as LayerWalk does.
  ScoreFit(Decoder& decoder, const Decoder& source, const TokenRowList& rows, ScoreFitOptions options);

  /// Fits the next layer, from the first one on.
  void next();

 private:
  Decoder& decoder_;
  LayerWalk theirs_;
  ScoreFitOptions options_;
};

}  // namespace mla
