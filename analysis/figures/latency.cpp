#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// Sums over the records of one cell, and their number.
struct Timing {
  double milliseconds = 0, spread = 0, roofline = 0, megabytes = 0, records = 0;
};

const ScoreOutline* find_bench(const RecordOutline& record, const std::string& metric) {
  for (const ScoreOutline& score : record.evaluation) {
    if (score.task == "bench" && score.metric == metric) return &score;
  }
  return nullptr;
}

std::optional<double> bench_score(const RecordOutline& record, const std::string& metric) {
  const ScoreOutline* score = find_bench(record, metric);
  return score ? std::optional(score->value) : std::nullopt;
}

using Curves = std::vector<std::pair<std::string, std::map<double, Timing>>>;

/// Curves by label, of records that `mlaforge bench` leaves: context -> timing. Source models come first.
Curves collect(const FigureInput& input) {
  std::map<std::pair<bool, std::string>, std::map<double, Timing>> curves;
  std::set<std::string> experiments;
  for (const LoadedRecord* record : input.records) {
    if (bench_score(record->outline, "time_per_token")) experiments.insert(record->outline.head.experiment);
  }
  for (const LoadedRecord* each : input.records) {
    const LoadedRecord& record = *each;
    const auto milliseconds = bench_score(record.outline, "time_per_token");
    const auto context = record.outline.overrides.find("context");
    bool source = false;
    if (!milliseconds || context == record.outline.overrides.end() || !context->is_number()) continue;
    std::string label = experiments.size() > 1 ? record.outline.head.experiment : "";
    for (const char* key : {"model", "batch", "path", "cache", "new_tokens"}) {
      const auto found = record.outline.overrides.find(key);
      if (found == record.outline.overrides.end()) continue;
      std::string text = plain_text(*found);
      if (found->is_object()) {
        const Json* codec = find_at(*found, "codec");
        text = codec && codec->is_object() ? cat(codec->value("name", ""), " ", codec->value("bits", 0), " bit") : "";
      }
      if (key == std::string("new_tokens")) text = record.settings.contains(key) ? text + " new" : "";
      if (text == "auto" || text.empty()) continue;
      if (key == std::string("model")) source = text == "source";
      label += cat(label.empty() ? "" : ", ", key == std::string("batch") ? "batch " : "", text);
    }
    Timing& timing = curves[{!source, label}][context->get<double>()];
    timing.records += 1;
    timing.milliseconds += *milliseconds;
    timing.spread += find_bench(record.outline, "time_per_token")->spread.value_or(0);
    const double share = std::max(bench_score(record.outline, "bandwidth_share").value_or(0),
                                  bench_score(record.outline, "compute_share").value_or(0));
    timing.roofline += *milliseconds * share;
    if (!record.outline.cache.empty())
      timing.megabytes += static_cast<double>(record.outline.cache.front().counted_bytes) / 1e6;
  }
  Curves ordered;
  for (auto& [key, curve] : curves) ordered.emplace_back(key.second, std::move(curve));
  return ordered;
}

}  // namespace

std::optional<Figure> draw_latency(const FigureInput& input) {
  constexpr std::size_t kMost = 12;
  const auto curves = collect(input);
  if (curves.empty()) return {};
  const std::size_t shown = std::min(curves.size(), kMost);
  Figure figure{
      "latency", "Decode latency and cache",
      "",        "# context  ms per token  half the distance of its quartiles  ms at the roofline  MB of the cache\n",
      "",        940,
      400};
  std::string left, right;
  std::vector<KeyEntry> keys;
  std::set<double> contexts;
  double most_records = 0;
  for (std::size_t i = 0; i < shown; ++i) {
    const auto& [label, curve] = curves[i];
    figure.data += cat(i > 0 ? "\n\n" : "", "# ", label, "\n");
    for (const auto& [context, timing] : curve) {
      contexts.insert(context);
      most_records = std::max(most_records, timing.records);
      figure.data += data_line({context, timing.milliseconds / timing.records, timing.spread / timing.records,
                                timing.roofline / timing.records, timing.megabytes / timing.records});
    }
    left += fmt::format(
        "  'latency.dat' index {0} using 1:2 with linespoints lt {1}, 'latency.dat' index {0} using 1:($4>0?$4:NaN) "
        "with lines lc rgb '#888888' dt 3 lw 1, \\\n",
        i, i + 1);
    right += fmt::format("  'latency.dat' index {} using 1:5 with linespoints lt {}, \\\n", i, i + 1);
    keys.push_back({fmt::format("linespoints lt {}", i + 1), label});
  }
  std::string tics;
  for (const double context : contexts) tics += fmt::format("{}{}", tics.empty() ? "" : ",", context);
  constexpr std::size_t kMostTics = 6;
  keys.push_back({"lines lc rgb '#888888' dt 3 lw 1", "roofline of each (left)"});
  const int key = key_height(keys, figure.width);
  figure.height += key;
  const double bottom = (key + 60.0) / figure.height;
  figure.script = cat("set logscale x 2\nset format '%g'\nset autoscale xfix\nset xlabel 'tokens in the cache'\n",
                      contexts.size() <= kMostTics ? cat("set xtics (", tics, ")\n") : "",
                      "set offsets graph 0.04, graph 0.04, graph 0.04, 0\nset multiplot\nset key off\n");
  figure.script += panel_at(0.075, 0.48, bottom, 0.96) +
                   "set yrange [0:*]\nset ylabel 'decoding step (ms)'\nplot \\\n" + left + "  NaN\n";
  figure.script +=
      panel_at(0.575, 0.98, bottom, 0.96) +
      "set yrange [*:*]\nset autoscale yfix\nset logscale y 10\nset ylabel 'cache, all sequences (MB)'\nplot \\\n" +
      right + "  NaN\n";
  figure.script += key_below(keys, figure) + "unset multiplot\n";
  figure.caption = cat("Time of one decoding step and bytes of the cache by context",
                       shown < curves.size() ? cat("; ", shown, " of ", curves.size(), " curves") : "",
                       most_records > 1 ? "; where several records are of one cell, their mean" : "",
                       ". Dotted: the least time that the machine's measured reading and arithmetic rates allow for "
                       "each curve. Contexts and sizes stand on logarithmic axes.");
  return figure;
}

}  // namespace mla
