#include <algorithm>
#include <sstream>

#include "analysis/commands/commands.h"
#include "analysis/pivot/pivot.h"
#include "analysis/records/dimension.h"
#include "analysis/tables/paper.h"
#include "core/base/file.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kUsage =
    "usage: mlaforge-report table [PRESET | CONFIG.json] RESULTS… [options]\n\n"
    "PRESET is table1 … table7 for the paper's tables beside ours, or sweep (the default): methods against tasks. "
    "Options\n"
    "change what the preset shows. A row, column or filter names a key of the runs' configs, such as train.steps or\n"
    "compress[0].rope.name, or one of those that --keys lists.\n\n"
    "Examples:\n"
    "  mlaforge-report table results/demo/ablation\n"
    "  mlaforge-report table table3 results/demo --format latex --output table3.tex\n"
    "  mlaforge-report table results --row rope_name --column d_kv --metric perplexity --where stage=fine_tuned\n"
    "  mlaforge-report table results --row settings --metric bytes_per_token --metric perplexity --sort perplexity\n";

/// "3", "table3" and "table7" name one table.
std::string preset_of(const std::string& word) {
  std::string name = word;
  if (word.size() == 1 && word >= "1" && word <= "7") name = "table" + word;
  if (name == "table6") name = "table2";
  if (name == "table7") name = "table3";
  const auto& known = preset_names();
  return std::find(known.begin(), known.end(), name) != known.end() ? name : "";
}

/// The spec that the first word names, which is then taken off the words.
TableSpec base_spec(std::vector<std::string>& words) {
  TableSpec spec;
  std::string name = "sweep";
  if (!words.empty()) {
    const bool config = words.front().ends_with(".json");
    const std::string named = preset_of(words.front());
    if (config) {
      const Json json = read_json(words.front());
      try {
        read_fields(json, "", spec);
      } catch (const ConfigError& error) {
        throw ConfigError(cat(words.front(), ": ", error.what()));
      }
    }
    if (!named.empty()) name = named;
    if (!config && named.empty() && words.size() > 1 && words.front().find('/') == std::string::npos &&
        !std::filesystem::exists(words.front())) {
      throw ConfigError(cat("table: neither a folder nor a preset: ", unknown_name(words.front(), preset_names())));
    }
    if (config || !named.empty()) words.erase(words.begin());
    if (config) return spec;
  }
  read_fields(preset(name), "", spec);
  return spec;
}

void override_spec(const ReportArguments& parsed, TableSpec& spec) {
  if (parsed.has("row") || parsed.has("column")) {  // a free pivot: nothing of the preset's shape stays
    spec.rows = parsed.texts("row");
    spec.columns = parsed.texts("column");
    spec.source = spec.separate_configs = spec.average = false;
    spec.paper.clear();
    spec.title.clear();
    if (spec.rows.empty()) throw ConfigError("--column: a table needs --row too");
  }
  if (parsed.has("metric")) {
    const bool one = parsed.texts("metric").size() == 1 && !parsed.has("row") && parsed.text("stage") != "all";
    spec.metrics = parsed.texts("metric");
    if (one) spec.metrics.emplace_back("perplexity");
    if (one && spec.metrics.front() == "perplexity") spec.metrics.pop_back();
  }
  if (parsed.has("stage")) spec.stage = parsed.text("stage");
  if (parsed.has("errors")) spec.errors = parsed.text("errors");
  if (parsed.has("sort")) spec.sort = parsed.text("sort");
  if (parsed.has("title")) spec.title = parsed.text("title");
  for (const std::string& filter : parsed.texts("where")) spec.where.push_back(filter);
}

void show_keys(std::ostream& out) {
  out << "keys of rows, columns and filters, beside config paths, provenance.NAME and task:\n";
  for (const DimensionName& each : dimension_names())
    out << "  " << each.name << std::string(22 - each.name.size(), ' ') << each.description << "\n";
  out << "numbers of a run, for --metric beside METRIC and TASK/METRIC:\n";
  for (const DimensionName& each : run_numbers())
    out << "  " << each.name << std::string(22 - each.name.size(), ' ') << each.description << "\n";
}

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  using Texts = std::vector<std::string>;
  po::options_description options("options");
  options.add_options()("row", po::value<Texts>()->composing(), "key of the rows; several make nested rows")(
      "column", po::value<Texts>()->composing(), "key of the columns, beside the metrics")(
      "metric", po::value<Texts>()->composing(), "METRIC of all tasks, TASK/METRIC, or a number of the run")(
      "where", po::value<Texts>()->composing(),
      "KEY=VALUE or KEY!=VALUE; * stands for anything, commas separate values")(
      "stage", po::value<std::string>(), "source, converted, fine_tuned, … or all; by default the last of each record")(
      "errors", po::value<std::string>(), "runs: over seeds; both: over seeds and samples, which are read")(
      "sort", po::value<std::string>(), "key or column to sort by; NAME:desc for falling order")(
      "title", po::value<std::string>(), "stands above the table")(
      "format", po::value<std::string>()->default_value("terminal"), "terminal, markdown, csv, latex or json")(
      "json", "the same as --format json")("output", po::value<std::string>(), "a file to write instead of stdout")(
      "keys", "list what rows, columns, filters and metrics can name");
  ReportArguments parsed = parse_arguments(self, options, arguments, streams);
  if (parsed.help) return ExitCode::kDone;
  if (parsed.has("keys")) {
    show_keys(streams.out);
    return ExitCode::kDone;
  }
  const std::string format = parsed.has("json") ? "json" : parsed.text("format");
  if (std::find(table_formats().begin(), table_formats().end(), format) == table_formats().end()) {
    throw ConfigError(cat("--format: ", unknown_name(format, table_formats())));
  }
  TableSpec spec = base_spec(parsed.words);
  override_spec(parsed, spec);
  const Table table = make_pivot(read_records(result_paths(self, parsed.words)), spec);
  if (!parsed.has("output")) {
    write_table(table, format, streams.bold, streams.out);
    return ExitCode::kDone;
  }
  std::ostringstream text;
  write_table(table, format, false, text);
  write_file_atomically(parsed.text("output"), text.str());
  return ExitCode::kDone;
}

}  // namespace

ReportCommand table_command() {
  return {"table", "the paper's tables, and any other of rows, columns and metrics", kUsage, run};
}

}  // namespace mla
