#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"

namespace mla {
namespace {

struct Step {
  std::string stage;
  double value;
};

std::vector<Step> steps_of(const LoadedRecord& record, const Quality& quality) {
  std::vector<Step> steps;
  for (const ScoreOutline& score : record.outline.evaluation) {
    const bool seen =
        std::any_of(steps.begin(), steps.end(), [&](const Step& step) { return step.stage == score.stage; });
    if (seen || score.stage.find("_of_layer_") != std::string::npos) continue;
    if (const auto value = quality_of(Observation{&record, score.stage, false}, quality))
      steps.push_back({score.stage, *value});
  }
  return steps;
}

}  // namespace

std::optional<Figure> draw_attribution(const FigureInput& input) {
  if (!input.quality) return {};
  std::vector<Step> steps;
  const RunGroup* shown = nullptr;
  const auto better = [&](double a, double b) { return input.quality->higher_is_better ? a > b : a < b; };
  for (const RunGroup& group : input.groups) {  // the record with the most steps; of several the one that ends best
    const auto found = steps_of(*group.runs.front().record, *input.quality);
    if (!group.compressed || found.size() < 3 || found.size() < steps.size()) continue;
    if (found.size() == steps.size() && !better(found.back().value, steps.back().value)) continue;
    steps = found;
    shown = &group;
  }
  if (!shown) return {};
  Figure figure{"attribution", "What each step costs", "", "# step  from  to  (name)\n", "", 760, 440};
  std::string ticks, labels;
  double lowest = steps.front().value, highest = lowest;
  for (const Step& step : steps) {
    lowest = std::min(lowest, step.value);
    highest = std::max(highest, step.value);
  }
  const bool log = !input.quality->higher_is_better && lowest > 0 && highest > 8 * lowest;
  const double floor = log ? lowest / 1.6 : std::max(0.0, lowest - 0.35 * (highest - lowest));
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const double from = i == 0 ? floor : steps[i - 1].value, to = steps[i].value;
    figure.data += fmt::format("{} {} {} {}\n", i, from, to,
                               i == 0                                           ? 0
                               : (to > from) == input.quality->higher_is_better ? 1
                                                                                : 2);
    std::string name = steps[i].stage;
    std::replace(name.begin(), name.end(), '_', ' ');
    ticks += fmt::format("{}{} {}", i > 0 ? ", " : "", gnuplot_text(name), i);
    labels += fmt::format("set label '{}{:.4g}' at {},{} center offset 0,0.8 front\n",
                          i == 0      ? ""
                          : to > from ? "+"
                                      : "",
                          i == 0 ? to : to - from, i, std::max(from, to));
  }
  figure.script = labels +
                  fmt::format(
                      "set boxwidth 0.6\nset style fill solid 0.85 border lc rgb '#444444'\nset xtics ({})\nset xrange "
                      "[-0.6:{}]\nset ylabel {}\nset yrange [{}:{}]\nset key top left Left reverse\n",
                      ticks, static_cast<double>(steps.size()) - 0.4, gnuplot_text(input.quality->label), floor,
                      log ? highest * 1.6 : highest + 0.15 * (highest - floor)) +
                  (log ? "set logscale y\nset format y '%g'\nset ytics (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, "
                         "2000, 5000, 10000)\n"
                       : "");
  const auto bars = [](int kind, const char* style, const char* title) {
    return fmt::format(
        "  'attribution.dat' using ($4=={}?$1:NaN):2:($1-0.3):($1+0.3):2:3 with boxxyerror {} title '{}', \\\n", kind,
        style, title);
  };
  figure.script += "plot \\\n" + bars(0, "lc rgb '#999999' dt 1", "source model") +
                   bars(2, "lc rgb '#8f3f00' dt 1", "worse") + bars(1, "lc rgb '#9fd0ee' dt 1", "better") +
                   "  NaN notitle\n";
  figure.caption =
      cat("What each step from the source model costs in ", input.quality->label, " (", shown->label, "), of one run.");
  return figure;
}

}  // namespace mla
