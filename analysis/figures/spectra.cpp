#include <fmt/format.h>

#include <algorithm>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"
#include "core/store/record_file.h"

namespace mla {

std::optional<Figure> draw_spectra(const FigureInput& input) {
  // The record with the widest spectra: the others are its beginnings.
  const RunGroup* widest = nullptr;
  double most = 0;
  for (const RunGroup& group : input.groups) {
    const auto& layers = group.runs.front().record->outline.layers;
    if (layers.empty() || dimension(group.runs.front(), "low_rank_name") == "none") continue;
    const double width = layers.front().value("latent_width", 0.0) +
                         (dimension(group.runs.front(), "low_rank_name") == "joint_svd" ? 0.5 : 0);
    if (width > most) {
      most = width;
      widest = &group;
    }
  }
  if (!widest) return {};
  const LoadedRecord& record = *widest->runs.front().record;
  std::vector<std::string> paths;
  for (std::size_t layer = 0; layer < record.outline.layers.size(); ++layer)
    paths.push_back(layer_group(layer) + "/singular_values");
  const auto spectra = read_arrays(record.path, paths);
  Figure figure{"spectra", "Singular values and energy",
                "",        "# rank  singular value  share of the energy up to this rank\n",
                "",        900,
                430};
  bool totals = true;
  for (std::size_t layer = 0; layer < spectra.size(); ++layer) {
    double kept = 0;
    for (const double value : spectra[layer]) kept += value * value;
    // The error of the truncation says what lies beyond: |W - W_r|^2 / |W|^2 = 1 - kept / total.
    const bool joint = dimension(widest->runs.front(), "low_rank_name") == "joint_svd";
    const double error = record.outline.layers[layer].value(joint ? "joint_error" : "key_error", 0.0);
    const double total = error < 1 ? kept / (1 - error * error) : 0;
    totals = totals && total > 0;
    figure.data += cat(layer > 0 ? "\n\n" : "", "# layer ", layer, "\n");
    double sum = 0;
    for (std::size_t rank = 0; rank < spectra[layer].size(); ++rank) {
      sum += spectra[layer][rank] * spectra[layer][rank];
      figure.data += data_line({static_cast<double>(rank + 1), spectra[layer][rank], total > 0 ? sum / total : 0});
    }
  }
  if (spectra.empty() || spectra.front().empty()) return {};
  const std::string last = std::to_string(spectra.size() - 1);
  const std::string range = spectra.size() > 1 ? last : "1";
  figure.script =
      "set palette defined (0 '#000000', 0.5 '#0072b2', 1 '#9fd0ee')\nset cbrange [0:" + range +
      "]\nset cblabel 'layer'\nset cbtics " + std::to_string(std::max<std::size_t>(1, spectra.size() / 8)) +
      "\nset multiplot layout 1,2 margins 0.09,0.9,0.16,0.92 spacing 0.11\nset logscale y\nset format y '%g'\nunset "
      "colorbox\nset xlabel 'rank'\nset ylabel 'singular value'\n" +
      "plot for [i=0:" + last + "] 'spectra.dat' index i using 1:2:(i) with lines lw 1.4 dt 1 lc palette z notitle\n" +
      "unset logscale y\nset yrange [0:1]\nset colorbox user origin 0.92,0.16 size 0.015,0.76\nset ylabel 'share of "
      "the energy kept'\n" +
      "plot for [i=0:" + last +
      "] 'spectra.dat' index i using 1:3:(i) with lines lw 1.4 dt 1 lc palette z notitle\nunset multiplot\n";
  figure.caption = cat(
      "Singular values of each layer's factorized matrix, and the share of its squared norm that the first ranks keep "
      "(",
      widest->label,
      "). The spectrum is recorded up to the rank that was kept; what lies beyond is known from the recorded error.");
  return figure;
}

}  // namespace mla
