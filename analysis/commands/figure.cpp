#include "analysis/figures/figure.h"

#include <algorithm>

#include "analysis/commands/commands.h"
#include "core/base/file.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kUsage =
    "usage: mlaforge-report figure [KIND…] RESULTS… [--output FOLDER] [--format svg,png,pdf,terminal]\n\n"
    "Without a KIND every figure is drawn that the records have data for. NAME.dat and NAME.gp stand beside each, to "
    "be\n"
    "restyled and drawn again with gnuplot. The format terminal prints the figure as text.\n\n"
    "Examples:\n  mlaforge-report figure results/demo --output figures --format svg,pdf\n"
    "  mlaforge-report figure pareto results/demo --format terminal\n";

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0;;) {
    const std::size_t comma = text.find(',', at);
    parts.push_back(text.substr(at, comma - at));
    if (comma == std::string::npos) return parts;
    at = comma + 1;
  }
}

/// The kinds that the first words name, which are then taken off.
std::vector<FigureKind> chosen_kinds(std::vector<std::string>& words) {
  std::vector<FigureKind> chosen;
  while (!words.empty()) {
    const auto& kinds = figure_kinds();
    const auto found =
        std::find_if(kinds.begin(), kinds.end(), [&](const FigureKind& kind) { return words.front() == kind.name; });
    if (found == kinds.end()) break;
    chosen.push_back(*found);
    words.erase(words.begin());
  }
  if (words.size() > 1 && !std::filesystem::exists(words.front())) {
    std::vector<std::string> known;
    for (const FigureKind& kind : figure_kinds()) known.emplace_back(kind.name);
    throw ConfigError(cat("figure: neither a folder nor a kind: ", unknown_name(words.front(), known)));
  }
  return chosen;
}

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  FigureOptions figure;
  std::vector<std::string> words;
  std::filesystem::path folder = "figures";
  std::string format_list = "svg";
  bool list = false;
  OptionList options;
  options.words(words);
  options.add("output,o", folder, "FOLDER", "folder to write to");
  options.add("format", format_list, "FORMAT,…", "svg, png, pdf, terminal; several with commas");
  options.add("task", figure.task, "TASK", "task of the quality shown");
  options.add("metric", figure.metric, "METRIC", "its metric; by default perplexity, or the mean accuracy");
  options.add("stage", figure.stage, "STAGE", "by default the last of each record");
  options.flag("label-all", figure.label_all, "pareto: name the dominated points, too");
  options.flag("list", list, "list the kinds");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  if (list) {
    for (const FigureKind& kind : figure_kinds())
      streams.out << kind.name << std::string(13 - std::string(kind.name).size(), ' ') << kind.summary << "\n";
    return ExitCode::kDone;
  }
  std::vector<FigureKind> kinds = chosen_kinds(words);
  const bool all = kinds.empty();
  if (all) kinds = figure_kinds();
  const RecordSet set = read_records(result_paths(self, words));
  const FigureInput input = figure_input(set, figure);
  const std::vector<std::string> formats = split(format_list);
  std::size_t drawn = 0;
  for (const FigureKind& kind : kinds) {
    auto made = kind.draw(input);
    if (made && !input.mixed.empty()) made->caption += cat(" The ", input.mixed, ".");
    if (!made) {
      if (!all) streams.err << kind.name << ": the records have nothing to show\n";
      continue;
    }
    write_figure(*made, folder, formats);
    ++drawn;
    for (const std::string& format : formats) {
      if (format == "terminal")
        streams.out << made->title << "\n" << read_file(folder / (made->name + ".txt")) << made->caption << "\n\n";
    }
    streams.err << (folder / made->name).string() << ".{dat,gp," << format_list << "}: " << made->caption << "\n";
  }
  if (!input.mixed.empty()) streams.err << input.mixed << "\n";
  for (const std::string& note : input.left_out) streams.err << "skipped: " << note << "\n";
  if (drawn == 0) throw DataError("figure: the records have nothing to show");
  return ExitCode::kDone;
}

}  // namespace

ReportCommand figure_command() {
  return {"figure", "curves, fronts, heat maps and spectra, drawn by gnuplot", kUsage, run};
}

}  // namespace mla
