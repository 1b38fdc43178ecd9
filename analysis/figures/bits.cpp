#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "analysis/figures/kinds.h"
#include "core/base/error.h"

namespace mla {
namespace {

const ScoreOutline* score_of(const RecordOutline& record, const std::string& stage, const std::string& task,
                             const std::string& metric) {
  for (const ScoreOutline& score : record.evaluation) {
    if (score.stage == stage && score.task == task && score.metric == metric) return &score;
  }
  return nullptr;
}

/// "hqq" of {"name": "hqq", "bits": 4, "axis": 0}: what a curve over bits has in common.
std::string codec_of(const RecordOutline& record) {
  const Json* codec = find_at(record.config, "cache.codec");
  if (!codec || codec->is_null()) return "as computed";
  if (!codec->is_object()) return plain_text(*codec);
  std::string text = codec->value("name", "");
  for (const auto& [key, value] : codec->items()) {
    if (key != "name" && key != "bits" && !value.is_structured()) text += cat(" ", key, "=", plain_text(value));
  }
  return text;
}

struct BitsPoint {
  double bits, value, error;
};

}  // namespace

std::optional<Figure> draw_bits(const FigureInput& input) {
  constexpr std::size_t kMost = 12;
  std::map<std::string, std::vector<BitsPoint>> curves;
  bool kl = false;
  for (const LoadedRecord& record : input.set.records) {
    for (const ScoreOutline& bits : record.outline.evaluation) {
      if (bits.metric != "effective_bits") continue;
      const ScoreOutline* value = score_of(record.outline, bits.stage, bits.task, "kl_mean");
      kl = kl || value;
      if (!value) value = score_of(record.outline, bits.stage, bits.task, "nll");
      if (!value) continue;
      const std::string codec = codec_of(record.outline);
      const std::string model = plain_text(dimension({&record, bits.stage, bits.stage == "source"}, "model"));
      curves[cat(model, " ", bits.stage, ", ", codec)].push_back(
          {bits.value, value->value, value->standard_error.value_or(0)});
    }
  }
  if (curves.empty()) return {};
  Figure figure{
      "bits", "Quality by bits of the cache", "", "# effective bits per element  value  standard error\n", "", 900,
      460};
  std::string plots;
  std::size_t i = 0;
  for (auto& [label, points] : curves) {
    if (i == kMost) break;
    std::sort(points.begin(), points.end(), [](const BitsPoint& a, const BitsPoint& b) { return a.bits < b.bits; });
    figure.data += cat(i > 0 ? "\n\n" : "", "# ", label, "\n");
    for (const BitsPoint& point : points) figure.data += data_line({point.bits, point.value, point.error});
    plots += fmt::format("  'bits.dat' index {} using 1:2 with linespoints lt {} title {}, \\\n", i, i + 1,
                         gnuplot_text(label));
    ++i;
  }
  figure.script =
      cat("set logscale x 2\nset xlabel 'effective bits per cached element'\nset ylabel ",
          kl ? "'KL divergence from the source model (nats per token)'" : "'NLL through the cache (nats per token)'",
          "\nset key outside right top Left reverse\nplot \\\n", plots, "  NaN notitle\n");
  figure.caption = cat(kl ? "KL divergence from the source model" : "Mean NLL of text decoded through the cache",
                       " by stored bits per element, everything counted",
                       i < curves.size() ? cat("; ", i, " of ", curves.size(), " curves") : "", ".");
  return figure;
}

}  // namespace mla
