#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::size_t kMostCurves = 10;
constexpr double kSmoothedShare = 1.0 / 20;  ///< of the course, that an average reaches over

/// Exponential average over about `span` entries, without a bias towards its start (Kingma and Ba 2015, section 3).
std::vector<double> smooth(const std::vector<double>& values, double span) {
  const double keep = 1 - 1 / std::max(1.0, span);
  std::vector<double> smoothed;
  double sum = 0, weight = 0;
  for (const double value : values) {
    sum = keep * sum + (1 - keep) * value;
    weight = keep * weight + (1 - keep);
    smoothed.push_back(sum / weight);
  }
  return smoothed;
}

struct Curve {
  std::string data;
  std::size_t runs = 0;  ///< that have a course
  bool cut = false;      ///< some runs have steps that others lack
};

/// Mean and standard deviation over all seeds at each step that all of them have.
Curve curve_of(const RunGroup& group) {
  std::map<double, std::vector<double>> at;
  Curve curve;
  std::size_t& runs = curve.runs;
  for (const Observation& run : group.runs) {
    const auto series = read_arrays(run.record->path, {"/training/step", "/training/loss"});
    if (series[0].empty() || series[0].size() != series[1].size()) continue;
    ++runs;
    const auto smoothed = smooth(series[1], static_cast<double>(series[1].size()) * kSmoothedShare);
    for (std::size_t i = 0; i < smoothed.size(); ++i) at[series[0][i]].push_back(smoothed[i]);
  }
  for (const auto& [step, values] : at) {
    curve.cut = curve.cut || values.size() != runs;
    if (values.size() != runs) continue;
    double mean = 0, squares = 0;
    for (const double value : values) mean += value / static_cast<double>(runs);
    for (const double value : values) squares += (value - mean) * (value - mean);
    const double deviation = runs > 1 ? std::sqrt(squares / static_cast<double>(runs - 1)) : 0;
    if (std::isfinite(mean)) curve.data += data_line({step, mean, mean - deviation, mean + deviation});
  }
  return curve;
}

}  // namespace

std::optional<Figure> draw_loss(const FigureInput& input) {
  std::vector<const RunGroup*> groups;
  for (const RunGroup& group : input.groups) groups.push_back(&group);
  if (input.quality && groups.size() > kMostCurves) {  // the best ones
    std::stable_sort(groups.begin(), groups.end(), [&](const RunGroup* a, const RunGroup* b) {
      const auto x = quality_of(*a, *input.quality), y = quality_of(*b, *input.quality);
      if (!x || !y) return x.has_value() && !y;
      return input.quality->higher_is_better ? x->mean > y->mean : x->mean < y->mean;
    });
  }
  Figure figure{"loss", "Training loss", "", "# step  mean  mean-sd  mean+sd\n", "", 880, 460};
  std::string bands, lines;
  std::size_t drawn = 0;
  bool several = false, cut = false;
  std::size_t most_runs = 0;
  for (const RunGroup* group : groups) {
    if (drawn == kMostCurves) break;
    const Curve curve = curve_of(*group);
    if (curve.data.empty()) continue;
    figure.data += cat("# ", group->label, ", ", curve.runs, curve.runs > 1 ? " runs\n" : " run\n", curve.data, "\n\n");
    ++drawn;
    several = several || curve.runs > 1;
    cut = cut || curve.cut;
    most_runs = std::max(most_runs, curve.runs);
    if (curve.runs > 1)
      bands += fmt::format(
          "  'loss.dat' index {} using 1:3:4 with filledcurves lt {} fs transparent solid 0.15 notitle, \\\n",
          drawn - 1, drawn);
    lines += fmt::format("  'loss.dat' index {} using 1:2 with lines lt {} title {}, \\\n", drawn - 1, drawn,
                         gnuplot_text(group->label));
  }
  if (drawn == 0) return {};
  figure.script =
      "set xlabel 'optimizer step'\nset ylabel 'training loss (nats per token)'\nset key outside right top Left "
      "reverse\nplot \\\n" +
      bands + lines + "  NaN notitle\n";
  figure.caption =
      cat("Training loss, an exponential average over a twentieth of the course",
          several ? cat("; bands: one standard deviation over seeds, up to ", most_runs, " of a config") : "",
          cut ? "; where runs of one config are of different lengths, only the steps that all of them have" : "",
          drawn < groups.size() ? cat("; ", drawn, " of ", groups.size(), " configs, the best ones") : "", ".");
  return figure;
}

}  // namespace mla
