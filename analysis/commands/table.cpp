#include <algorithm>
#include <sstream>

#include "analysis/commands/commands.h"
#include "analysis/pivot/pivot.h"
#include "analysis/records/dimension.h"
#include "analysis/tables/paper.h"
#include "core/base/file.h"
#include "core/base/suggest.h"
#include "core/base/yaml.h"

namespace mla {
namespace {

constexpr const char* kUsage =
    "usage: mlaforge-report table [PRESET | CONFIG.json] RESULTS… [options]\n\n"
    "PRESET is table1 … table7 for the paper's tables beside ours, methods for many at their bytes, or sweep (the\n"
    "default) for methods against tasks. Options change what the preset shows. A row, column or filter names a key\n"
    "of the runs' configs, such as train.steps or compress[0].rope.name, or one of those that --keys lists.\n\n"
    "Examples:\n"
    "  mlaforge-report table results/demo/ablation\n"
    "  mlaforge-report table table3 results/demo --format latex --output table3.tex\n"
    "  mlaforge-report table table1 results/table1 --paper-model SmolLM-135M\n"
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
    const bool config = words.front().ends_with(".json") || is_yaml(words.front());
    const std::string named = preset_of(words.front());
    if (config) {
      const Json json = read_json_or_yaml(words.front());
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

struct TableFlags {
  std::vector<std::string> words, rows, columns, metrics, where;
  std::optional<std::string> stage, errors, sort, title, paper_model;
  std::optional<std::filesystem::path> output;
  std::string format = "terminal";
  bool json = false, keys = false;

  void declare(OptionList& options) {
    options.words(words);
    options.add("row", rows, "KEY", "key of the rows; several make nested rows");
    options.add("column", columns, "KEY", "key of the columns, beside the metrics");
    options.add("metric", metrics, "METRIC", "METRIC of all tasks, TASK/METRIC, or a number of the run");
    options.add("where", where, "FILTER", "KEY=VALUE or KEY!=VALUE; * stands for anything, commas separate values");
    options.add("stage", stage, "STAGE", "source, converted, fine_tuned, … or all; by default the last of each record");
    options.add("errors", errors, "WHICH", "runs: over seeds; both: over seeds and samples, which are read");
    options.add("paper-model", paper_model, "MODEL",
                "of the paper's, such as SmolLM-135M: its rows alone, beside ours of whatever model");
    options.add("sort", sort, "NAME", "key or column to sort by; NAME:desc for falling order");
    options.add("title", title, "TEXT", "stands above the table");
    options.add("format", format, "FORMAT", "terminal, markdown, csv, latex or json");
    options.flag("json", json, "the same as --format json");
    options.add("output,o", output, "FILE", "a file to write instead of stdout");
    options.flag("keys", keys, "list what rows, columns, filters and metrics can name");
  }
};

void override_spec(const TableFlags& given, TableSpec& spec) {
  const bool pivot = !given.rows.empty() || !given.columns.empty();
  if (pivot) {  // a free pivot: nothing of the preset's shape stays
    spec.rows = given.rows;
    spec.columns = given.columns;
    spec.source = spec.separate_configs = spec.average = false;
    spec.paper.clear();
    spec.title.clear();
    if (spec.rows.empty()) throw ConfigError("--column: a table needs --row too");
  }
  if (!given.metrics.empty()) {
    const bool one = given.metrics.size() == 1 && given.rows.empty() && given.stage != "all";
    spec.metrics = given.metrics;
    if (one) spec.metrics.emplace_back("perplexity");
    if (one && spec.metrics.front() == "perplexity") spec.metrics.pop_back();
  }
  spec.paper_model = given.paper_model.value_or(spec.paper_model);
  if (spec.paper.empty() && !spec.paper_model.empty())
    throw ConfigError("--paper-model: the table has no numbers of the paper; table1 … table7 have");
  spec.stage = given.stage.value_or(spec.stage);
  spec.errors = given.errors.value_or(spec.errors);
  spec.sort = given.sort.value_or(spec.sort);
  spec.title = given.title.value_or(spec.title);
  spec.where.insert(spec.where.end(), given.where.begin(), given.where.end());
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
  TableFlags given;
  OptionList options;
  given.declare(options);
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  if (given.keys) {
    show_keys(streams.out);
    return ExitCode::kDone;
  }
  const std::string format = given.json ? "json" : given.format;
  if (std::find(table_formats().begin(), table_formats().end(), format) == table_formats().end()) {
    throw ConfigError(cat("--format: ", unknown_name(format, table_formats())));
  }
  TableSpec spec = base_spec(given.words);
  override_spec(given, spec);
  const Table table = make_pivot(read_records(result_paths(self, given.words)), spec);
  if (!given.output) {
    write_table(table, format, streams.bold, streams.out);
    return ExitCode::kDone;
  }
  std::ostringstream text;
  write_table(table, format, false, text);
  write_file_atomically(*given.output, text.str());
  return ExitCode::kDone;
}

}  // namespace

ReportCommand table_command() {
  return {"table", "the paper's tables, and any other of rows, columns and metrics", kUsage, run};
}

}  // namespace mla
