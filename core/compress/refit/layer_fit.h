// Layers trained one by one, each to give what the source's layer gives.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/compress/calibration/layer_walk.h"
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
  std::int64_t steps = 160, batch_rows = 8;
  double learning_rate = 1e-3;
  FitInputs inputs = FitInputs::kSource;
  std::int64_t skip_positions = 1;
  double held_out = 0.125;
  std::int64_t rows = 0;
  std::uint64_t seed = 42;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("steps", self.steps, "updates of each layer's attention");
    visit("batch_rows", self.batch_rows, "calibration rows of an update");
    visit("learning_rate", self.learning_rate, "peak, after a short warm-up; half a cosine leads to 0");
    visit("inputs", self.inputs,
          "what a layer is given: source (what the source's is) | converted (what the layers before let through)");
    visit("skip_positions", self.skip_positions,
          "first tokens of each row left out: they see little, and the first one is like no other");
    visit("held_out", self.held_out,
          "share of the rows by which a layer is judged, and not fitted: it is kept as it was where that is better; 0: "
          "judged by the rows fitted");
    visit("rows", self.rows, "calibration rows that are read, the first ones; 0: all");
    visit("seed", self.seed, "of the order of rows");
  }

  std::int64_t trained_rows() const { return steps * batch_rows; }
  /// Throws ConfigError for numbers out of their range.
  void validate(const std::string& path) const;
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
