// Each kind of figure, defined in the file of its name.
#pragma once

#include "analysis/figures/figure.h"

namespace mla {

std::optional<Figure> draw_loss(const FigureInput& input);
std::optional<Figure> draw_pareto(const FigureInput& input);
std::optional<Figure> draw_pairs(const FigureInput& input);
std::optional<Figure> draw_spectra(const FigureInput& input);
std::optional<Figure> draw_layer_error(const FigureInput& input);
std::optional<Figure> draw_attribution(const FigureInput& input);
std::optional<Figure> draw_latency(const FigureInput& input);
std::optional<Figure> draw_bits(const FigureInput& input);

}  // namespace mla
