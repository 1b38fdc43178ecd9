#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"

namespace mla {
namespace {

struct Timing {
  double milliseconds = 0, spread = 0, roofline = 0, megabytes = 0;
};

std::optional<double> bench_score(const RecordOutline& record, const std::string& metric, bool error = false) {
  for (const ScoreOutline& score : record.evaluation) {
    if (score.task == "bench" && score.metric == metric)
      return error ? score.standard_error : std::optional(score.value);
  }
  return {};
}

/// Curves by label, of records that `mlaforge bench` leaves: context -> timing.
std::map<std::string, std::map<double, Timing>> collect(const FigureInput& input) {
  std::map<std::string, std::map<double, Timing>> curves;
  for (const LoadedRecord& record : input.set.records) {
    const auto milliseconds = bench_score(record.outline, "time_per_token");
    const auto context = record.outline.overrides.find("context");
    if (!milliseconds || context == record.outline.overrides.end() || !context->is_number()) continue;
    std::string label;
    for (const char* key : {"model", "batch", "path", "cache"}) {
      const auto found = record.outline.overrides.find(key);
      if (found == record.outline.overrides.end()) continue;
      std::string text = plain_text(*found);
      if (found->is_object()) {
        const Json* codec = find_at(*found, "codec");
        text = codec && codec->is_object() ? cat(codec->value("name", ""), " ", codec->value("bits", 0), " bit") : "";
      }
      if (text == "auto" || text.empty()) continue;
      label += cat(label.empty() ? "" : ", ", std::string(key) == "batch" ? "batch " : "", text);
    }
    Timing timing{*milliseconds, bench_score(record.outline, "time_per_token", true).value_or(0), 0, 0};
    const double share = std::max(bench_score(record.outline, "bandwidth_share").value_or(0),
                                  bench_score(record.outline, "compute_share").value_or(0));
    timing.roofline = *milliseconds * share;
    if (!record.outline.cache.empty())
      timing.megabytes = static_cast<double>(record.outline.cache.front().counted_bytes) / 1e6;
    curves[label][context->get<double>()] = timing;
  }
  return curves;
}

}  // namespace

std::optional<Figure> draw_latency(const FigureInput& input) {
  constexpr std::size_t kMost = 8;
  const auto curves = collect(input);
  if (curves.empty()) return {};
  Figure figure{"latency", "Decode latency and cache",
                "",        "# context  ms per token  spread  ms at the roofline  MB of the cache\n",
                "",        980,
                460};
  std::string left, right;
  std::size_t i = 0;
  for (const auto& [label, curve] : curves) {
    if (i == kMost) break;
    figure.data += cat(i > 0 ? "\n\n" : "", "# ", label, "\n");
    for (const auto& [context, timing] : curve)
      figure.data += data_line({context, timing.milliseconds, timing.spread, timing.roofline, timing.megabytes});
    left += fmt::format(
        "  'latency.dat' index {0} using 1:2 with linespoints lt {1} notitle, 'latency.dat' index {0} using "
        "1:($4>0?$4:NaN) with lines lt {1} dt 3 lw 1 notitle, \\\n",
        i, i + 1);
    right += fmt::format("  'latency.dat' index {} using 1:5 with linespoints lt {} title {}, \\\n", i, i + 1,
                         gnuplot_text(label));
    ++i;
  }
  figure.script =
      "set logscale x 2\nset xlabel 'tokens in the cache'\nset yrange [0:*]\nset multiplot layout 1,2 margins "
      "0.07,0.74,0.14,0.94 spacing 0.09\nset ylabel 'ms per token'\nplot \\\n" +
      left + "  NaN notitle\nset ylabel 'cache (MB)'\nset key at screen 0.99,0.94 right top Left reverse\nplot \\\n" +
      right + "  NaN with lines lc rgb '#444444' dt 3 lw 1 title 'roofline (left)'\nunset multiplot\n";
  figure.caption =
      "Time of one decoding step and size of the cache by context. Dotted: the least that the machine's measured "
      "bandwidth and arithmetic allow.";
  return figure;
}

}  // namespace mla
