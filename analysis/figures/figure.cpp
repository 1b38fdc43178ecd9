#include "analysis/figures/figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <string_view>

#include "analysis/pivot/mean.h"
#include "analysis/records/mixed_programs.h"
#include "analysis/records/passes.h"
#include "analysis/records/portable_config.h"
#include "analysis/records/usable_records.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/shell.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

const std::vector<std::string> kFormats = {"svg", "png", "pdf", "terminal"};

/// Lines differ in dashes and marks as well as in colour (Okabe and Ito's, ordered from dark to light), so that they
/// can be told apart in grey.
constexpr const char* kStyle = R"(
set linetype 1 lc rgb '#000000' lw 1.6 dt 1 pt 7 ps 0.7
set linetype 2 lc rgb '#0072b2' lw 1.6 dt 2 pt 5 ps 0.7
set linetype 3 lc rgb '#d55e00' lw 1.6 dt 4 pt 9 ps 0.8
set linetype 4 lc rgb '#009e73' lw 1.6 dt 3 pt 11 ps 0.8
set linetype 5 lc rgb '#cc79a7' lw 1.6 dt 5 pt 13 ps 0.9
set linetype 6 lc rgb '#56b4e9' lw 1.6 dt 1 pt 6 ps 0.7
set linetype 7 lc rgb '#e69f00' lw 1.6 dt 2 pt 4 ps 0.7
set linetype 8 lc rgb '#777777' lw 1.6 dt 4 pt 8 ps 0.8
set linetype 9 lc rgb '#004d79' lw 1.6 dt 3 pt 10 ps 0.8
set linetype 10 lc rgb '#8f3f00' lw 1.6 dt 5 pt 12 ps 0.9
set linetype 11 lc rgb '#00684d' lw 1.6 dt 1 pt 2 ps 0.7
set linetype 12 lc rgb '#8a4f70' lw 1.6 dt 2 pt 1 ps 0.7
set linetype cycle 12
set border 3 lc rgb '#444444'
set tics nomirror out
set grid lc rgb '#dddddd' lw 0.6 dt 1
set key noenhanced
)";

std::string preamble(const Figure& figure) {
  std::string text =
      fmt::format("# {}\n# Draws {}.svg; other formats: gnuplot -e \"format='png'\" {}.gp (png, pdf, terminal)\n",
                  figure.title, figure.name, figure.name);
  text += "if (!exists('format')) format = 'svg'\n";
  text += fmt::format(
      "if (format eq 'svg') set terminal svg size {},{} font 'DejaVu Sans,13' background '#ffffff' noenhanced\n",
      figure.width, figure.height);
  text += fmt::format(
      "if (format eq 'png') set terminal pngcairo size {},{} font 'DejaVu Sans,10' fontscale 1.5 linewidth 1.5 "
      "pointscale 1.5 noenhanced\n",
      figure.width * 3 / 2, figure.height * 3 / 2);
  text += fmt::format(
      "if (format eq 'pdf') set terminal pdfcairo size {:.2f}in,{:.2f}in font 'DejaVu Sans,11' noenhanced\n",
      figure.width / 100.0, figure.height / 100.0);
  text += fmt::format("if (format eq 'terminal') set terminal dumb size 120,{} noenhanced\n",
                      std::clamp(figure.height / 13, 30, 60));
  text += fmt::format("set output '{}.' . (format eq 'terminal' ? 'txt' : format)\n", figure.name);
  return text + kStyle;
}

/// Rotation and factors say what mha2mla is; other methods their names and options.
std::string label_of(const Observation& observation) {
  const std::string rope = plain_text(dimension(observation, "rope")),
                    low_rank = plain_text(dimension(observation, "low_rank"));
  std::string label = rope;
  if (dimension(observation, "method") == "none") {
    label = "not compressed";
  } else if (rope.empty()) {
    Json room;
    label = options_text(pass_of(observation.record->outline.config, room));
  }
  if (!low_rank.empty() && low_rank != "none") label += cat(" + ", low_rank);
  for (const char* name : {"cache", "settings"}) {
    const std::string text = plain_text(dimension(observation, name));
    if (!text.empty()) label += cat(", ", text);
  }
  return label;
}

/// Some records' configs hold a whole sweep, of which the overrides name the cell.
std::string overrides_without_seeds(const RecordOutline& record) {
  std::string text;
  for (const auto& [path, value] : record.overrides.items()) {
    if (path != "seed" && !path.ends_with(".seed")) text += cat(path, "=", without_folders(path, value).dump(), "\n");
  }
  return text;
}

/// Runs of a record that groups are made of: its last stage, and the source model where that went through a codec, too.
std::vector<Observation> runs_of(const LoadedRecord& record, const FigureOptions& options) {
  std::string stage = stage_of(record.outline, options.stage);
  if (stage.empty() && !options.stage.empty()) return {};
  if (stage.empty()) stage = "none";
  std::vector<Observation> runs = {{&record, stage, stage == "source"}};
  const Observation coded{&record, "source", true, CacheScores::kThroughCodec};
  const auto& scores = record.outline.evaluation;
  const bool any = std::any_of(scores.begin(), scores.end(),
                               [&](const ScoreOutline& score) { return task_of(coded, score).has_value(); });
  if (any && !codec_of(coded).is_null() && (options.stage.empty() || stage == "source")) runs.push_back(coded);
  return runs;
}

/// What runs of one group have in common. A source model is the same whatever a cell makes of it.
std::string group_key(const Observation& run) {
  const Json config = portable_config_without_seeds(*run.record);
  if (run.scores != CacheScores::kThroughCodec)
    return cat(run.stage, config.dump(), overrides_without_seeds(run.record->outline));
  const Json *model = find_at(config, "model"), *cache = find_at(config, "cache");
  return cat("source through a codec", model ? model->dump() : "", cache ? cache->dump() : "");
}

std::vector<RunGroup> group_runs(const std::vector<const LoadedRecord*>& records, const FigureOptions& options) {
  std::vector<RunGroup> groups;
  std::map<std::string, std::size_t> known;
  std::vector<std::string> models;
  for (const LoadedRecord* record : records) {
    for (const Observation& run : runs_of(*record, options)) {
      const auto [found, is_new] = known.try_emplace(group_key(run), groups.size());
      const bool source = run.scores == CacheScores::kThroughCodec;
      if (is_new) {
        const bool compressed = dimension(run, "method") != "none" || !codec_of(run).is_null();
        groups.push_back({label_of(run), {}, compressed, run_number(run, "saved_percent").value_or(0)});
        const std::string model = plain_text(dimension(run, "model"));
        if (std::find(models.begin(), models.end(), model) == models.end()) models.push_back(model);
      } else if (source) {
        continue;  // the same source model, of another cell
      }
      groups[found->second].runs.push_back(run);
    }
  }
  if (models.size() > 1) {
    for (RunGroup& group : groups)
      group.label = cat(plain_text(dimension(group.runs.front(), "model")), ": ", group.label);
  }
  std::stable_sort(groups.begin(), groups.end(), [](const RunGroup& a, const RunGroup& b) {
    return std::pair(a.compressed, a.saved_percent) < std::pair(b.compressed, b.saved_percent);
  });
  return groups;
}

/// The score that options name, or perplexity, or the mean of all accuracies of one kind.
std::optional<Quality> find_quality(const std::vector<RunGroup>& groups, const FigureOptions& options) {
  std::vector<const ScoreOutline*> scores;
  for (const RunGroup& group : groups) {
    const Observation& run = group.runs.front();
    for (const ScoreOutline& score : run.record->outline.evaluation) {
      if (score.stage == run.stage) scores.push_back(&score);
    }
    if (scores.size() > 5000) break;
  }
  constexpr std::string_view kCached = ", cached";
  const auto all_of = [&](const std::string& metric, bool one, bool cached = false) {
    std::optional<Quality> quality;
    for (const ScoreOutline* score : scores) {
      if (score->metric != metric || (!options.task.empty() && score->task != options.task)) continue;
      if (cached && !score->task.ends_with(kCached)) continue;
      if (!quality) quality = Quality{{}, "", score->higher_is_better, 1};
      const std::pair part{score->task, score->metric};
      if (std::find(quality->parts.begin(), quality->parts.end(), part) != quality->parts.end()) continue;
      if (one && !quality->parts.empty()) continue;
      quality->parts.push_back(part);
      quality->through_cache = score->task.ends_with(kCached);
      const bool share = is_share(*score);
      quality->scale = share ? 100 : 1;
      const std::string unit = share ? "%" : score->unit;
      const std::string what = quality->parts.size() > 1 ? cat("mean ", metric)
                               : score->task == metric   ? metric
                                                         : cat(score->task, " ", metric);
      quality->label = cat(what, unit.empty() ? "" : cat(" (", unit, ")"));
    }
    return quality;
  };
  if (!options.metric.empty() || !options.task.empty()) {
    std::vector<std::string> known;
    for (const ScoreOutline* score : scores) {
      if (std::find(known.begin(), known.end(), score->metric) == known.end()) known.push_back(score->metric);
    }
    const std::string metric = options.metric.empty() ? "perplexity" : options.metric;
    auto quality = all_of(metric, !options.task.empty());
    if (!quality)
      throw ConfigError(cat("--metric ", metric, options.task.empty() ? "" : cat(" of --task ", options.task), ": ",
                            unknown_name(metric, known)));
    return quality;
  }
  // Where caches have codecs, what is said through them belongs to their bytes; other scores do not know of the codec.
  const bool coded = std::any_of(groups.begin(), groups.end(),
                                 [](const RunGroup& group) { return !codec_of(group.runs.front()).is_null(); });
  if (coded) {
    if (auto quality = all_of("perplexity", true, true)) return quality;
  }
  for (const auto& [metric, one] : {std::pair{"perplexity", true}, std::pair{"nll", true},
                                    std::pair{"accuracy_normalized", false}, std::pair{"accuracy", false}}) {
    if (auto quality = all_of(metric, one)) return quality;
  }
  return {};
}

}  // namespace

FigureInput figure_input(const RecordSet& set, const FigureOptions& options) {
  UsableRecords usable = usable_records(set);
  FigureInput input{set, usable.records, std::move(usable.left_out), mixed_programs(usable.records), options, {}, {}};
  input.groups = group_runs(input.records, options);
  if (!input.groups.empty()) input.quality = find_quality(input.groups, options);
  return input;
}

namespace {

/// A quality as an observation has it; tasks through a codec go by their own names there.
std::optional<TableValue> table_value(const Observation& observation, const Quality& quality) {
  if (observation.scores == CacheScores::kThroughCodec && !quality.through_cache) return {};
  ValueSpec spec;
  spec.parts = quality.parts;
  spec.share = quality.scale != 1;
  Item item{observation, ""};
  item.observation.scores = CacheScores::kAll;
  const auto value = value_of(item, spec);
  return value && std::isfinite(value->mean) ? value : std::nullopt;
}

}  // namespace

std::optional<double> quality_of(const Observation& observation, const Quality& quality) {
  const auto value = table_value(observation, quality);
  return value ? std::optional(value->mean) : std::nullopt;
}

std::optional<GroupValue> quality_of(const RunGroup& group, const Quality& quality) {
  std::vector<TableValue> values;
  for (const Observation& run : group.runs) {
    if (const auto value = table_value(run, quality)) values.push_back(*value);
  }
  if (values.empty()) return {};
  const TableValue mean = mean_of(values);
  return GroupValue{mean.mean, mean.error};
}

std::string panel_at(double left, double right, double bottom, double top) {
  return fmt::format(
      "set lmargin at screen {:.3f}\nset rmargin at screen {:.3f}\nset bmargin at screen {:.3f}\nset tmargin at screen "
      "{:.3f}\n",
      left, right, bottom, top);
}

namespace {

/// Columns of a key as gnuplot lays it out, on the safe side.
std::size_t key_columns(const std::vector<KeyEntry>& entries, int width) {
  constexpr int kCharacter = 10, kSample = 70;
  std::size_t longest = 1;
  for (const KeyEntry& entry : entries) longest = std::max(longest, entry.title.size());
  return static_cast<std::size_t>(std::max(1, width * 96 / 100 / (kCharacter * static_cast<int>(longest) + kSample)));
}

}  // namespace

int key_height(const std::vector<KeyEntry>& entries, int width) {
  constexpr std::size_t kLine = 20;
  const std::size_t columns = key_columns(entries, width);
  return static_cast<int>(kLine * ((entries.size() + columns - 1) / columns) + kLine / 2);
}

std::string key_below(const std::vector<KeyEntry>& entries, const Figure& figure) {
  std::string plots;
  for (const KeyEntry& entry : entries)
    plots += fmt::format("NaN with {} title {}, ", entry.with, gnuplot_text(entry.title));
  return panel_at(0.02, 0.98, 0.005, static_cast<double>(key_height(entries, figure.width)) / figure.height) +
         "unset border\nunset tics\nunset xlabel\nunset ylabel\nunset title\nunset logscale\nunset grid\n"
         "set offsets 0,0,0,0\n" +
         fmt::format("set key inside center center horizontal maxcols {} Left reverse samplen 3\n",
                     key_columns(entries, figure.width)) +
         "plot [0:1] [0:1] " + plots + "NaN notitle\n";
}

std::string log_axis(double least, double largest) {
  constexpr double kDecade = 10, kRoom = 1.5;
  if (!(least > 0 && largest > kDecade * least)) return "";
  // By itself gnuplot begins and ends with whole decades, most of which may be empty.
  const double from = least / kRoom, to = largest * kRoom;
  std::string tics;
  for (double decade = std::pow(kDecade, std::floor(std::log10(from))); decade <= to; decade *= kDecade) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (const double at = step * decade; at >= from && at <= to)
        tics += fmt::format("{}{:g}", tics.empty() ? "" : ",", at);
    }
  }
  return fmt::format("set logscale y\nset format y '%g'\nset yrange [{:g}:{:g}]\nset ytics ({})\n", from, to, tics);
}

std::string gnuplot_text(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("''") : c == '\n' ? std::string(" ") : std::string(1, c);
  return quoted += '\'';
}

std::string data_line(const std::vector<double>& values) {
  std::string line;
  for (const double value : values) line += line.empty() ? fmt::format("{}", value) : fmt::format(" {}", value);
  return line += '\n';
}

namespace {

/// Whether a file ends as its format does: gnuplot does not tell of a full disk.
bool is_whole(const std::filesystem::path& file, const std::string& format) {
  static const std::map<std::string, std::string> ends = {{"svg", "</svg>"}, {"pdf", "%%EOF"}, {"png", "IEND"}};
  const auto end = ends.find(format);
  if (end == ends.end()) return true;
  const std::string text = std::filesystem::exists(file) ? read_file(file) : "";
  constexpr std::size_t kTail = 32;
  return text.find(end->second, text.size() - std::min(text.size(), kTail)) != std::string::npos;
}

}  // namespace

void write_figure(const Figure& figure, const std::filesystem::path& folder, const std::vector<std::string>& formats) {
  for (const std::string& format : formats) {
    if (std::find(kFormats.begin(), kFormats.end(), format) == kFormats.end())
      throw ConfigError(cat("--format: ", unknown_name(format, kFormats)));
  }
  write_file_atomically(folder / (figure.name + ".dat"), figure.data);
  write_file_atomically(folder / (figure.name + ".gp"), preamble(figure) + figure.script);
  for (const std::string& format : formats) {
    const std::filesystem::path log = folder / (figure.name + ".log");
    const std::string command = cat("cd ", shell_quoted(folder.string()), " && gnuplot -e \"format='", format, "'\" ",
                                    figure.name, ".gp >", figure.name, ".log 2>&1");
    const int status = std::system(command.c_str());
    const std::string said = std::filesystem::exists(log) ? read_file(log) : "";
    std::error_code ignored;
    std::filesystem::remove(log, ignored);
    if (status == 0 && is_whole(folder / (figure.name + "." + format), format)) continue;
    if (status == 0)
      throw DataError(
          cat((folder / (figure.name + "." + format)).string(), ": was not written to its end: is the disk full?"));
    if (said.find("not found") != std::string::npos)
      throw DataError("gnuplot is not installed (Debian package gnuplot-nox); data and scripts were written");
    std::string line = said;
    std::replace(line.begin(), line.end(), '\n', ' ');
    throw DataError(cat((folder / (figure.name + ".gp")).string(), ": gnuplot: ", line));
  }
}

}  // namespace mla
