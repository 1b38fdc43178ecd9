#include "analysis/compare/compare.h"

#include <algorithm>

#include "analysis/commands/commands.h"
#include "analysis/compare/compare_by.h"
#include "analysis/records/dimension.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kUsage =
    "usage: mlaforge-report compare A B [options]\n"
    "       mlaforge-report compare RESULTS --commits HASH HASH [options]\n"
    "       mlaforge-report compare RESULTS… --by KEY [options]\n\n"
    "A and B are results folders or records, before and after. Cells are matched by their configs, then by name, two\n"
    "single cells in any case. Every score that both have is compared by a paired bootstrap over its items, "
    "perplexities and averages by the items that "
    "they\n"
    "are computed from; what became worse comes first. Verdicts are each comparison's own: of many, some stand out by\n"
    "chance. `p Holm` is corrected for their number, and --fail-on-worse goes by it.\n\n"
    "--by groups cells by their values at a config path, pairs those that differ in nothing else, and shows for each\n"
    "score the best value and those that cannot be told from it (~), then each pair of values: difference, interval,\n"
    "p and p Holm, effect size.\n\n"
    "Examples:\n  mlaforge-report compare results_before results_after\n"
    "  mlaforge-report compare results/table3/A.h5 results/table3/B.h5\n"
    "  mlaforge-report compare results --commits 0f3672e aa64885 --fail-on-worse\n"
    "  mlaforge-report compare results/demo --by 'compress[0].rope.name' --metric perplexity\n";

RecordSet of_commit(const RecordSet& set, const std::string& commit) {
  RecordSet chosen;
  for (const LoadedRecord& record : set.records) {
    if (plain_text(record.outline.provenance.value("git_hash", Json())).starts_with(commit))
      chosen.records.push_back(record);
  }
  if (chosen.records.empty()) throw DataError(cat("--commits: no record of commit ", commit));
  return chosen;
}

struct ByFlags {
  std::string by, stage, format = "terminal";
  std::vector<std::string> metrics;

  void declare(OptionList& options) {
    options.add("by", by, "KEY", "compare the values of this config path, such as compress[0].rope.name");
    options.add("metric", metrics, "METRIC",
                "with --by: METRIC of all tasks, or TASK/METRIC; by default accuracy_normalized and perplexity");
    options.add("stage", stage, "STAGE", "with --by: source, converted, fine_tuned, …; by default the last of each");
    options.add("format", format, "FORMAT", "with --by: terminal, markdown, csv, latex or json");
  }

  /// Throws ConfigError for one that needs --by, which is not given.
  void check() const {
    if (!by.empty()) return;
    for (const auto& [name, given] :
         {std::pair{"metric", !metrics.empty()}, {"stage", !stage.empty()}, {"format", format != "terminal"}}) {
      if (given) throw ConfigError(cat("--", name, ": belongs to --by KEY"));
    }
  }
};

/// `json` is --json, the same as the format of that name.
ExitCode compare_values(const ByFlags& given, bool json, double confidence, std::size_t max_lines,
                        const std::vector<std::filesystem::path>& paths, const ReportStreams& streams) {
  const std::string format = json ? "json" : given.format;
  if (std::find(table_formats().begin(), table_formats().end(), format) == table_formats().end())
    throw ConfigError(cat("--format: ", unknown_name(format, table_formats())));
  const CompareByOptions options{given.by, given.stage, given.metrics, confidence};
  const RecordSet set = read_records(paths);
  const CompareByReport report = compare_by(set, options);
  if (format == "json") {
    streams.out << compare_by_json(report, options).dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
    return ExitCode::kDone;
  }
  write_table(report.table, format, streams.bold, streams.out);
  if (format != "terminal") return ExitCode::kDone;
  streams.out << "\n";
  print_pairs(report, options, max_lines, streams.out);
  return ExitCode::kDone;
}

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  CompareOptions compare;
  std::vector<std::string> words, commits;
  ByFlags by;
  std::int64_t max_lines = 40;
  bool fail_on_worse = false, json = false;
  OptionList options;
  options.words(words);
  options.add_several("commits", commits, "HASH HASH", "two commits whose records of one folder are compared");
  by.declare(options);
  options.add("confidence", compare.confidence, "SHARE", "of the intervals");
  options.add("resamples", compare.resamples, "N", "of the bootstrap");
  options.add("seed", compare.seed, "S", "of the bootstrap");
  options.add_count("max-lines", max_lines, 0, "lines shown");
  options.renamed("limit", "max-lines");
  options.flag("fail-on-worse", fail_on_worse,
               "exit code 1 when a score became worse, after Holm's correction for the number of tests");
  options.flag("json", json, "print one JSON object on stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  if (!(compare.confidence > 0 && compare.confidence < 1))
    throw ConfigError(cat("--confidence = ", compare.confidence, ": must lie between 0 and 1"));
  if (compare.resamples < 2) throw ConfigError(cat("--resamples = ", compare.resamples, ": must be 2 or more"));
  by.check();
  if (!by.by.empty()) {
    if (!commits.empty() || fail_on_worse)
      throw ConfigError("--by: compares values of a key; --commits and --fail-on-worse compare two sets of results");
    return compare_values(by, json, compare.confidence, static_cast<std::size_t>(max_lines), result_paths(self, words),
                          streams);
  }
  RecordSet before, after;
  if (!commits.empty()) {
    if (commits.size() != 2 || words.empty()) throw ConfigError("compare: name results and two --commits");
    const RecordSet all = read_records(result_paths(self, words));
    before = of_commit(all, commits[0]);
    after = of_commit(all, commits[1]);
    before.skipped = all.skipped;
  } else {
    if (words.size() != 2) throw ConfigError(cat("compare: name two results folders, not ", words.size()));
    before = read_records({words[0]});
    after = read_records({words[1]});
  }
  const ComparisonReport report = compare_results(before, after, compare);
  if (report.cells.empty()) throw DataError("compare: the two have no cell in common, by config or by name");
  if (json) {
    streams.out << comparison_json(report, compare).dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    print_comparison(report, compare, static_cast<std::size_t>(max_lines), streams.out);
  }
  const bool worse = report.surely(Verdict::kWorse, compare.confidence) > 0;
  return worse && fail_on_worse ? ExitCode::kCellsFailed : ExitCode::kDone;
}

}  // namespace

ReportCommand compare_command() {
  return {"compare", "two results folders or commits, score by score, what became worse first", kUsage, run};
}

}  // namespace mla
