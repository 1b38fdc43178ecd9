#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "analysis/figures/kinds.h"
#include "analysis/pivot/mean.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// Scores of text decoded through a cache, by what was stored: one entry a run.
struct BitsRuns {
  std::vector<TableValue> bits, nll, kl;
};

/// Their means over runs.
struct BitsPoint {
  double bits = 0, nll = 0, nll_error = 0;
  std::optional<double> kl, kl_error;
};

TableValue table_value(const ScoreOutline& score) {
  TableValue value;
  value.mean = score.value;
  value.error = value.sample_error = score.standard_error;
  return value;
}

BitsPoint point_of(const BitsRuns& runs) {
  const TableValue nll = mean_of(runs.nll);
  BitsPoint point{mean_of(runs.bits).mean, nll.mean, nll.error.value_or(0), {}, {}};
  if (runs.kl.size() == runs.nll.size()) {
    const TableValue kl = mean_of(runs.kl);
    point.kl = kl.mean;
    point.kl_error = kl.error.value_or(0);
  }
  return point;
}

/// One model: its points by codec, and what it says through a cache that is kept as computed.
struct Panel {
  std::map<std::string, std::map<std::string, BitsRuns>> runs;  ///< by codec without its bits, by codec
  std::map<std::string, std::vector<BitsPoint>> curves;
  std::vector<TableValue> exact;
  std::optional<double> exact_nll;
};

/// "hqq axis=0" of {"name": "hqq", "bits": 4, "axis": 0}: what a curve over bits has in common.
std::string without_bits(Json codec) {
  if (codec.is_object()) codec.erase("bits");
  return codec_text(codec);
}

/// Source models come first.
using Panels = std::map<std::pair<bool, std::string>, Panel>;

Panels collect(const FigureInput& input) {
  Panels panels;
  std::set<std::string> models;
  for (const LoadedRecord* record : input.records) models.insert(model_name(record->outline.config));
  const bool one_model = models.size() < 2;
  for (const LoadedRecord* each : input.records) {
    const LoadedRecord& record = *each;
    for (const ScoreOutline& bits : record.outline.evaluation) {
      if (bits.metric != "effective_bits") continue;
      const Observation stage{&record, bits.stage, bits.stage == "source"};
      const ScoreOutline *nll = find_score(stage, bits.task, "nll"), *kl = find_score(stage, bits.task, "kl_mean");
      if (!nll) continue;
      std::string name = one_model ? "" : plain_text(dimension(stage, "model")) + ", ";
      const bool source = bits.stage == "source";
      name += source ? "source"
                     : cat(bits.stage, ": ", plain_text(dimension(stage, "rope")), " + ",
                           plain_text(dimension(stage, "low_rank")));
      Panel& panel = panels[{!source, name}];
      const Json& codec = codec_of({&record, bits.stage, source, CacheScores::kThroughCodec});
      if (codec.is_null()) {
        panel.exact.push_back(table_value(*nll));
        continue;
      }
      BitsRuns& runs = panel.runs[without_bits(codec)][cat(bits.task, codec.dump())];
      runs.bits.push_back(table_value(bits));
      runs.nll.push_back(table_value(*nll));
      if (kl) runs.kl.push_back(table_value(*kl));
    }
  }
  for (auto& [name, panel] : panels) {
    if (!panel.exact.empty()) panel.exact_nll = mean_of(panel.exact).mean;
    for (const auto& [codec, points] : panel.runs) {
      for (const auto& [settings, runs] : points) panel.curves[codec].push_back(point_of(runs));
    }
  }
  return panels;
}

/// What stands on the vertical axis, the same in all panels.
enum class Axis { kKl, kRatio, kNll };

Axis axis_of(const Panels& panels) {
  bool kl = true, exact = true;
  for (const auto& [name, panel] : panels) {
    exact = exact && panel.exact_nll;
    for (const auto& [codec, points] : panel.curves) {
      for (const BitsPoint& point : points) kl = kl && point.kl;
    }
  }
  return kl ? Axis::kKl : exact ? Axis::kRatio : Axis::kNll;
}

double value_at(const BitsPoint& point, const Panel& panel, Axis axis) {
  if (axis == Axis::kKl) return *point.kl;
  return axis == Axis::kRatio ? std::exp(point.nll - *panel.exact_nll) : point.nll;
}

const char* label_of(Axis axis) {
  if (axis == Axis::kKl) return "KL divergence (nats per token)";
  return axis == Axis::kRatio ? "perplexity ratio" : "NLL (nats per token)";
}

const char* caption_of(Axis axis) {
  if (axis == Axis::kKl)
    return "KL divergence of what is predicted through the codec from what the same model predicts "
           "through a cache kept as computed";
  if (axis == Axis::kRatio)
    return "Perplexity of text decoded through the codec over that through a cache kept as "
           "computed, of the same model (not all of these records hold a KL divergence)";
  return "Mean NLL of text decoded through the cache (these records hold no KL divergence, and none of a cache kept as "
         "computed)";
}

}  // namespace

std::optional<Figure> draw_bits(const FigureInput& input) {
  constexpr std::size_t kMostCodecs = 12, kMostPanels = 4;
  auto panels = collect(input);
  std::erase_if(panels, [](const auto& each) { return each.second.curves.empty(); });
  if (panels.empty()) return {};
  const Axis axis = axis_of(panels);
  std::set<std::string> all;
  for (const auto& [name, panel] : panels) {
    for (const auto& [codec, points] : panel.curves) all.insert(codec);
  }
  const std::vector<std::string> codecs(all.begin(), all.end());
  const std::size_t shown = std::min(codecs.size(), kMostCodecs), drawn = std::min(panels.size(), kMostPanels);
  const std::size_t columns = std::min<std::size_t>(drawn, 2), rows = (drawn + 1) / 2;
  Figure figure{"bits",
                "Quality by bits of the cache",
                "",
                "# effective bits per element  value  standard error\n",
                "",
                columns > 1 ? 940 : 620,
                static_cast<int>(350 * rows)};
  std::vector<KeyEntry> keys;
  for (std::size_t i = 0; i < shown; ++i) keys.push_back({fmt::format("linespoints lt {}", i + 1), codecs[i]});
  figure.height += key_height(keys, figure.width);
  const double key = static_cast<double>(key_height(keys, figure.width)) / figure.height;
  figure.script =
      cat("set logscale x 2\nset format '%g'\nset autoscale fix\nset xtics (2,3,4,5,6,8,10,12,14,16,18,20,24,32)\n"
          "set xlabel 'effective bits per cached element'\nset ylabel ",
          gnuplot_text(label_of(axis)), "\n", axis == Axis::kKl ? "set logscale y\nset format y '10^%L'\n" : "",
          "set offsets graph 0.04, graph 0.04, graph 0.06, graph 0.04\nset multiplot\nset key off\n");
  std::size_t index = 0, number = 0;
  for (const auto& [name, panel] : panels) {
    if (number == drawn) break;
    const std::size_t column = number % columns, row = number / columns;
    const double height = (1 - key) / static_cast<double>(rows), top = 1 - height * static_cast<double>(row);
    const double width = 1.0 / static_cast<double>(columns), left = width * static_cast<double>(column);
    figure.script += panel_at(left + (columns > 1 ? 0.09 : 0.13), left + width - 0.02,
                              top - height + 60.0 / figure.height, top - 32.0 / figure.height);
    ++number;
    figure.script += cat("set title ", gnuplot_text(name.second), " noenhanced\nplot \\\n");
    for (std::size_t i = 0; i < shown; ++i) {
      const auto curve = panel.curves.find(codecs[i]);
      if (curve == panel.curves.end()) continue;
      std::vector<BitsPoint> points = curve->second;
      std::sort(points.begin(), points.end(), [](const BitsPoint& a, const BitsPoint& b) { return a.bits < b.bits; });
      figure.data += cat(index > 0 ? "\n\n" : "", "# ", name.second, ", ", codecs[i], "\n");
      for (const BitsPoint& point : points) {
        const double value = value_at(point, panel, axis);
        const double error = axis == Axis::kKl      ? point.kl_error.value_or(0)
                             : axis == Axis::kRatio ? value * point.nll_error
                                                    : point.nll_error;
        figure.data += data_line({point.bits, value, error});
      }
      figure.script += fmt::format("  'bits.dat' index {} using 1:2 with linespoints lt {}, \\\n", index++, i + 1);
    }
    figure.script += axis == Axis::kRatio ? "  1 with lines lc rgb '#888888' lw 0.8 dt 3\n" : "  NaN\n";
  }
  figure.script += key_below(keys, figure) + "unset multiplot\n";
  figure.caption =
      cat(caption_of(axis), ", by stored bits per element: codes, scales, zeros, and what is kept as it is",
          shown < codecs.size() ? cat("; ", shown, " of ", codecs.size(), " codecs") : "",
          drawn < panels.size() ? cat("; ", drawn, " of ", panels.size(), " models") : "", ".");
  return figure;
}

}  // namespace mla
