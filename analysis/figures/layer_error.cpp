#include <fmt/format.h>

#include <algorithm>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"

namespace mla {

std::optional<Figure> draw_layer_error(const FigureInput& input) {
  constexpr std::size_t kMost = 10;
  std::vector<const RunGroup*> groups;
  for (const RunGroup& group : input.groups) {
    const auto& layers = group.runs.front().record->outline.layers;
    if (layers.empty() || dimension(group.runs.front(), "low_rank_name") == "none") continue;
    groups.push_back(&group);
  }
  if (groups.empty()) return {};
  // Over the range of sizes, not the first ones alone.
  std::vector<const RunGroup*> chosen;
  for (std::size_t i = 0; i < std::min(kMost, groups.size()); ++i)
    chosen.push_back(groups[i * groups.size() / std::min(kMost, groups.size())]);
  Figure figure{
      "layer_error", "Error of each layer", "", "# layer  joint error  error of keys  error of values\n", "", 880, 440};
  std::string plots;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    figure.data += cat(i > 0 ? "\n\n" : "", "# ", chosen[i]->label, "\n");
    const auto& layers = chosen[i]->runs.front().record->outline.layers;
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      figure.data += data_line({static_cast<double>(layer), layers[layer].value("joint_error", 0.0),
                                layers[layer].value("key_error", 0.0), layers[layer].value("value_error", 0.0)});
    }
    plots += fmt::format("  'layer_error.dat' index {} using 1:2 with linespoints lt {} title {}, \\\n", i, i + 1,
                         gnuplot_text(chosen[i]->label));
  }
  const std::size_t layers = chosen.front()->runs.front().record->outline.layers.size();
  figure.script = fmt::format(
                      "set xlabel 'layer'\nset ylabel 'relative error of keys and values (Frobenius)'\nset key outside "
                      "right top Left reverse\nset yrange [0:*]\n"
                      "set xrange [-0.3:{}]\nset xtics {}\nplot \\\n",
                      static_cast<double>(layers) - 0.7, std::max<std::size_t>(1, layers / 12)) +
                  plots + "  NaN notitle\n";
  figure.caption =
      cat("Relative Frobenius error of each layer's keys and values after truncation",
          chosen.size() < groups.size() ? cat("; ", chosen.size(), " of ", groups.size(), " configs") : "", ".");
  return figure;
}

}  // namespace mla
