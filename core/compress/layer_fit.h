// Layers trained one by one, each to give what the source's layer gives.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/compress/layer_walk.h"
#include "core/compress/report.h"

namespace mla {

/// What the attention of a layer is given while it is fitted.
enum class FitInputs {
  kSource,     ///< what the source's attention is given: layers do not depend on each other
  kConverted,  ///< what the layers before, fitted already, let through
};
inline std::vector<std::pair<std::string, FitInputs>> enum_names(FitInputs) {
  return {{"source", FitInputs::kSource}, {"converted", FitInputs::kConverted}};
}

struct LayerFitOptions {
  std::int64_t steps = 160;
  std::int64_t batch_rows = 8;
  double learning_rate = 1e-3;  ///< after a warm-up of a tenth of the steps, ten at most; then half a cosine to 0
  FitInputs inputs = FitInputs::kSource;
  std::int64_t skip_positions = 1;  ///< first tokens of each row left out
  double held_out = 0.125;          ///< share of the rows that are not fitted, but judged by; 0: by those fitted
  std::uint64_t seed = 42;          ///< of the order of rows
};

/// All parameters of a layer's attention by Adam (betas 0.9 and 0.95, no decay) on
///   |o - t|^2 / |t|^2
/// over the tokens of a step, with o the layer's attention output and t what the source's layer gives on its own
/// inputs. No gradient leaves the layer, so that memory is that of one layer and of the states of all rows. What was
/// fitted is taken where its error on the rows that it is judged by is smaller than before; else the layer stays as it
/// was. A layer without an error, and one that takes from layers before it what is not in its input (shared attention),
/// are left alone. The same bytes with any number of threads.
class LayerFit {
 public:
  /// Models are referred to; they have as many layers as each other, and are computed in float32 or float64. Throws as
  /// LayerWalk does.
  LayerFit(Decoder& decoder, const Decoder& source, const TokenRowList& rows, LayerFitOptions options);

  /// Fits the next layer, from the first one on. Throws as check_interrupt() does.
  LayerFitReport next();
  bool done() const { return theirs_.done(); }

 private:
  Decoder& decoder_;
  LayerWalk theirs_;
  std::optional<LayerWalk> ours_;
  LayerFitOptions options_;
};

}  // namespace mla
