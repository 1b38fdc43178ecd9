#include "analysis/figures/kinds.h"

namespace mla {

const std::vector<FigureKind>& figure_kinds() {
  static const std::vector<FigureKind> kinds = {
      {"loss", "training loss by step, smoothed, with the spread over seeds", draw_loss},
      {"pareto", "quality against bytes of the cache, with the Pareto front", draw_pareto},
      {"pairs", "which rotation pairs are kept, per layer and KV head", draw_pairs},
      {"spectra", "singular values, and the energy that each rank keeps", draw_spectra},
      {"layer_error", "relative error of each layer's factors", draw_layer_error},
      {"attribution", "what each step from the source model costs", draw_attribution},
      {"latency", "decode latency and memory by context, with the roofline", draw_latency},
      {"bits", "quality by the bits of a quantized cache", draw_bits}};
  return kinds;
}

}  // namespace mla
