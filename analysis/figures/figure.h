// Figures drawn by gnuplot, with their data and script beside them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "analysis/records/dimension.h"

namespace mla {

struct Figure {
  std::string name;  ///< of its files: NAME.dat, NAME.gp, NAME.svg, …
  std::string title;
  std::string caption;            ///< what is shown, and what was left out; one paragraph
  std::string data;               ///< text of NAME.dat: blocks that gnuplot knows by index
  std::string script;             ///< gnuplot commands after the terminal is set, which read "NAME.dat"
  int width = 760, height = 460;  ///< points of the screen; other formats keep the proportion
};

/// What figures show, where the records leave a choice.
struct FigureOptions {
  std::string task, metric;  ///< the quality shown; empty: perplexity, or else the mean accuracy
  std::string stage;         ///< empty: the last one of each record
  bool label_all = false;    ///< of a Pareto front: also the dominated points
};

/// The runs of one config, over seeds.
struct RunGroup {
  std::string label;
  std::vector<Observation> runs;
  bool compressed = false;  ///< by a pass, or by a codec of the cache
  double saved_percent = 0;
};

/// A quality that all groups can be compared by: one score, or the mean of several tasks.
struct Quality {
  std::vector<std::pair<std::string, std::string>> parts;  ///< task and metric
  std::string label;                                       ///< with its unit, for an axis
  bool higher_is_better = false;
  double scale = 1;
  bool through_cache = false;  ///< of text decoded through the cells' caches, which are quantized in some of them
};

/// Everything that figures draw from.
struct FigureInput {
  const RecordSet& set;
  std::vector<const LoadedRecord*> records;  ///< those that count, each run once, as in tables
  std::vector<std::string> left_out;         ///< the others, a line each
  std::string mixed;                         ///< one line where the records are of several programs
  FigureOptions options;
  std::vector<RunGroup> groups;  ///< in order of the cache, more before less; without records that failed
  std::optional<Quality> quality;
};

/// Groups the records and finds the quality. Throws ConfigError when options name a score that no record has.
FigureInput figure_input(const RecordSet& set, const FigureOptions& options);

/// Mean and standard error over a group's runs, by the rules of tables (mean_of() in analysis/pivot/mean.h); no error
/// where none is known.
struct GroupValue {
  double mean = 0;
  std::optional<double> error;
};
std::optional<GroupValue> quality_of(const RunGroup& group, const Quality& quality);
std::optional<double> quality_of(const Observation& observation, const Quality& quality);

/// One kind of figure; nothing where the records have nothing to show.
struct FigureKind {
  const char* name;
  const char* summary;
  std::optional<Figure> (*draw)(const FigureInput& input);
};
const std::vector<FigureKind>& figure_kinds();

/// Writes NAME.dat and NAME.gp into `folder` and runs gnuplot for each format: svg, png, pdf, terminal (NAME.txt).
/// Throws DataError when gnuplot is missing or complains, ConfigError for an unknown format.
void write_figure(const Figure& figure, const std::filesystem::path& folder, const std::vector<std::string>& formats);

/// Where the next plot of a multiplot stands, in shares of the picture.
std::string panel_at(double left, double right, double bottom, double top);
/// What a key shows of one curve: how it is drawn, "lines lt 1", and its name.
struct KeyEntry {
  std::string with, title;
};
/// Points of the screen that a key beneath the panels of a figure of `width` points takes.
int key_height(const std::vector<KeyEntry>& entries, int width);
/// That key: a plot without a curve at the foot of the figure. Call it last.
std::string key_below(const std::vector<KeyEntry>& entries, const Figure& figure);

/// "set logscale y\n" where values from `least` to `largest` span more than an axis of equal steps can show, else "".
std::string log_axis(double least, double largest);

/// Text in single quotes for a gnuplot script.
std::string gnuplot_text(const std::string& text);
/// A line of numbers of a data file.
std::string data_line(const std::vector<double>& values);

}  // namespace mla
