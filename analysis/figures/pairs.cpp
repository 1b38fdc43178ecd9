#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"
#include "core/store/record.h"

namespace mla {
namespace {

constexpr std::size_t kMostPanels = 4;

struct Panel {
  std::string title;
  std::vector<LayerRecord> layers;
};

/// One record of each selection: of those with the number of pairs that most have.
std::vector<Panel> collect(const FigureInput& input, std::size_t& others) {
  std::map<std::string, std::size_t> counts;
  for (const RunGroup& group : input.groups) {
    const std::string pairs = dimension(group.runs.front(), "pairs").dump();
    if (group.compressed && plain_text(dimension(group.runs.front(), "rope_name")) != "all") ++counts[pairs];
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  std::vector<Panel> panels;
  std::vector<std::string> seen;
  for (const RunGroup& group : input.groups) {
    const Observation& run = group.runs.front();
    const std::string name = plain_text(dimension(run, "rope_name"));
    if (!group.compressed || most == counts.end() || dimension(run, "pairs").dump() != most->first) continue;
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
    RunRecord record = read_record(run.record->path);
    if (record.compression.empty() || record.compression.front().pairs.empty()) continue;
    seen.push_back(name);
    if (panels.size() == kMostPanels) {
      ++others;
      continue;
    }
    panels.push_back({plain_text(dimension(run, "rope")), std::move(record.compression)});
  }
  return panels;
}

}  // namespace

std::optional<Figure> draw_pairs(const FigureInput& input) {
  std::size_t others = 0;
  const std::vector<Panel> panels = collect(input, others);
  if (panels.empty()) return {};
  std::int64_t width = 1;
  std::size_t heads = 1, layers = 1;
  for (const Panel& panel : panels) {
    layers = std::max(layers, panel.layers.size());
    for (const LayerRecord& layer : panel.layers) {
      heads = std::max(heads, layer.pairs.size());
      for (const auto& head : layer.pairs) {
        for (const std::int64_t pair : head) width = std::max(width, pair + 1);
      }
    }
  }
  Figure figure{"pairs", "Rotation pairs that keep RoPE", "", "# pair  row (layer * heads + head)\n", "", 0, 0};
  std::string plots;
  for (std::size_t p = 0; p < panels.size(); ++p) {
    figure.data += cat(p > 0 ? "\n\n" : "", "# ", panels[p].title, "\n");
    for (std::size_t layer = 0; layer < panels[p].layers.size(); ++layer) {
      const auto& kept = panels[p].layers[layer].pairs;
      for (std::size_t head = 0; head < kept.size(); ++head) {
        for (const std::int64_t pair : kept[head])
          figure.data += data_line({static_cast<double>(pair), static_cast<double>(layer * heads + head)});
      }
    }
    plots += fmt::format(
        "set title {}\nplot 'pairs.dat' index {} using 1:2:(0.46):(0.46) with boxxyerror lc rgb '#1f3a5f' fs solid "
        "noborder notitle\n",
        gnuplot_text(panels[p].title), p);
    if (p == 0) plots += "set ylabel ' '\n";
  }
  std::string ticks;
  const std::size_t step = std::max<std::size_t>(1, layers / 16);
  for (std::size_t layer = 0; layer < layers; layer += step) {
    ticks += fmt::format("{}'{}' {}", ticks.empty() ? "" : ", ", layer,
                         static_cast<double>(layer * heads) + static_cast<double>(heads - 1) / 2);
  }
  std::string borders;
  for (std::size_t layer = 1; layer < layers; ++layer) {
    const double y = static_cast<double>(layer * heads) - 0.5;
    borders += fmt::format("set arrow from -0.5,{0} to {1},{0} nohead lc rgb '#aaaaaa' lw 0.5 front\n", y,
                           static_cast<double>(width) - 0.5);
  }
  figure.width = static_cast<int>(120 + 200 * panels.size());
  figure.height = static_cast<int>(std::clamp<std::size_t>(layers * heads * 14 + 130, 300, 900));
  figure.script =
      fmt::format(
          "unset grid\nset border 15\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\nset ytics ({})\nset xtics {}\n",
          static_cast<double>(width) - 0.5, static_cast<double>(layers * heads) - 0.5, ticks,
          std::max<std::int64_t>(1, width / 8 * 2)) +
      borders +
      fmt::format(
          "set ylabel 'layer (rows: KV heads)'\nset xlabel 'rotation pair'\nset multiplot layout 1,{} margins "
          "{:.3f},0.98,{},0.9 spacing {:.3f}\n",
          panels.size(), 80.0 / figure.width, figure.height < 400 ? "0.2" : "0.12", 36.0 / figure.width) +
      plots + "unset multiplot\n";
  figure.caption = fmt::format(
      "Rotation pairs that keep RoPE, by layer and KV head (a row each; {} heads a layer). Pair 0 rotates fastest.",
      heads);
  if (others > 0) figure.caption += fmt::format(" {} of {} selections.", panels.size(), panels.size() + others);
  return figure;
}

}  // namespace mla
