// The commands that look after records: verify, merge, export, repair, gc.
#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "analysis/commands/commands.h"
#include "analysis/records/merge.h"
#include "analysis/records/repair.h"
#include "analysis/records/verify.h"
#include "analysis/tables/export.h"
#include "core/base/file.h"

namespace mla {
namespace {

Json findings_json(const std::vector<Finding>& findings) {
  Json json = Json::array();
  for (const Finding& finding : findings)
    json.push_back({{"path", finding.path.string()}, {"problem", finding.problem}});
  return json;
}

ExitCode verify(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> words;
  bool json = false;
  OptionList options;
  options.words(words);
  options.flag("json", json, "print one JSON object on stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  const Verification found = verify_results(result_paths(self, words));
  if (json) {
    streams.out << Json{{"records", found.records},
                        {"problems", findings_json(found.problems)},
                        {"incomplete", findings_json(found.incomplete)},
                        {"annotated", findings_json(found.annotated)}}
                       .dump()
                << "\n";
  } else {
    for (const Finding& finding : found.problems)
      streams.out << finding.path.string() << ": " << finding.problem << "\n";
    for (const Finding& finding : found.incomplete)
      streams.out << "incomplete: " << finding.path.string() << ": " << finding.problem << "\n";
    for (const Finding& finding : found.annotated)
      streams.out << "annotated: " << finding.path.string() << ": " << finding.problem << "\n";
    streams.out << found.records << " records, " << found.problems.size() << " problems, " << found.incomplete.size()
                << " incomplete";
    if (!found.annotated.empty()) streams.out << ", " << found.annotated.size() << " annotated";
    streams.out << "\n";
  }
  return found.good() ? ExitCode::kDone : ExitCode::kData;
}

ExitCode merge(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> words;
  std::filesystem::path output;
  bool rename = false, json = false;
  OptionList options;
  options.words(words);
  options.add("output,o", output, "FOLDER", "the results folder to make or to add to");
  options.flag("rename", rename, "keep two runs of one name, the second as <cell>@<hash>.h5");
  options.flag("json", json, "print one JSON object on stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  if (output.empty()) throw ConfigError("merge: --output names the results folder to make");
  const MergeReport report = merge_results(result_paths(self, words), output, rename);
  if (json) {
    streams.out
        << Json{{"copied", report.copied}, {"already_there", report.already_there}, {"skipped", report.skipped}}.dump()
        << "\n";
  } else {
    for (const std::string& note : report.skipped) streams.out << "skipped: " << note << "\n";
    streams.out << report.copied << " records copied, " << report.already_there << " already there, "
                << report.skipped.size() << " skipped\n";
  }
  return report.skipped.empty() ? ExitCode::kDone : ExitCode::kCellsFailed;
}

ExitCode export_command_run(const ReportCommand& self, const std::vector<std::string>& arguments,
                            const ReportStreams& streams) {
  std::vector<std::string> words;
  ExportOptions what;
  std::filesystem::path target;
  OptionList options;
  options.words(words);
  options.add("what", what.what, "WHAT", "scores, samples, training, training_scores, layers, spectra or numbers");
  options.add("format", what.format, "FORMAT", "csv, json or jsonl");
  options.add("output,o", target, "FILE", "a file to write instead of stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  std::vector<std::string> notes;
  if (!target.empty()) {
    const std::filesystem::path temporary = temporary_name(target);
    std::ofstream file(temporary, std::ios::binary);
    if (!file) throw DataError(cat(target.string(), ": cannot be written"));
    try {
      notes = export_records(result_paths(self, words), what, file);
      if (!file.flush()) throw DataError(cat(target.string(), ": cannot be written to its end"));
    } catch (...) {
      std::error_code ignored;
      std::filesystem::remove(temporary, ignored);
      throw;
    }
    std::filesystem::rename(temporary, target);
  } else {
    notes = export_records(result_paths(self, words), what, streams.out);
  }
  for (const std::string& note : notes) streams.err << "skipped: " << note << "\n";
  return ExitCode::kDone;
}

ExitCode repair(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> words;
  bool dry_run = false, json = false;
  OptionList options;
  options.words(words);
  options.flag("dry-run", dry_run, "tell what would be done");
  options.flag("json", json, "print one JSON object on stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  constexpr const char* kNames[] = {"whole", "repaired", "salvaged", "hopeless"};
  std::size_t counts[4] = {};
  Json files = Json::array();
  for (const RepairResult& result : repair_records(result_paths(self, words), dry_run)) {
    const auto outcome = static_cast<std::size_t>(result.outcome);
    ++counts[outcome];
    if (result.outcome == RepairOutcome::kWhole && result.note.empty()) continue;
    files.push_back({{"path", result.path.string()}, {"outcome", kNames[outcome]}, {"note", result.note}});
    if (!json) streams.out << kNames[outcome] << ": " << result.path.string() << ": " << result.note << "\n";
  }
  if (json) {
    streams.out << Json{{"whole", counts[0]},
                        {"repaired", counts[1]},
                        {"salvaged", counts[2]},
                        {"hopeless", counts[3]},
                        {"files", files}}
                       .dump()
                << "\n";
  } else {
    streams.out << counts[0] << " whole, " << counts[1] << " repaired, " << counts[2] << " salvaged in part, "
                << counts[3] << " hopeless" << (dry_run ? " (nothing was changed)" : "") << "\n";
  }
  return counts[3] > 0 ? ExitCode::kData : ExitCode::kDone;
}

ExitCode gc(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> words;
  bool dry_run = false, json = false;
  double older_than = 3600;
  OptionList options;
  options.words(words);
  options.flag("dry-run", dry_run, "tell what would be removed");
  options.add("older-than", older_than, "SECONDS", "seconds after which a process of another host counts as gone");
  options.flag("json", json, "print one JSON object on stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  const GarbageReport report = collect_garbage(result_paths(self, words), older_than, dry_run);
  Json removed = Json::array();
  for (const auto& path : report.removed) {
    removed.push_back(path.string());
    if (!json) streams.out << path.string() << "\n";
  }
  if (json) {
    streams.out << Json{{"removed", removed}, {"bytes", report.bytes}, {"kept", report.kept}}.dump() << "\n";
  } else {
    streams.out << fmt::format("{} files, {:.1f} MB {}; {} kept, whose processes may live\n", report.removed.size(),
                               static_cast<double>(report.bytes) / 1e6, dry_run ? "to remove" : "removed", report.kept);
  }
  return ExitCode::kDone;
}

}  // namespace

ReportCommand verify_command() {
  return {
      "verify", "check structure, checksums and completeness of results",
      "usage: mlaforge-report verify RESULTS… [--json]\n\nExit code 3 when a record is damaged; what is planned "
      "and missing is told, and no error, and so are additions by other\nprograms, such as notes made with h5py.\n\n"
      "Example: mlaforge-report verify results\n",
      verify};
}
ReportCommand merge_command() {
  return {"merge", "several results folders as one, which a run can go on with",
          "usage: mlaforge-report merge RESULTS… --output FOLDER [--rename]\n\nThe inputs stay as they are.\n\n"
          "Example: mlaforge-report merge machine1/results machine2/results --output results\n",
          merge};
}
ReportCommand export_command() {
  return {"export", "records in long form for pandas, R and databases",
          "usage: mlaforge-report export RESULTS… [--what WHAT] [--format FORMAT] [--output FILE]\n\n"
          "One line per score, sample, step of training, number of a layer, singular value, or other number by its "
          "path.\n\n"
          "Example: mlaforge-report export results/demo --what samples --output samples.csv\n",
          export_command_run};
}
ReportCommand repair_command() {
  return {"repair", "mend records that an interruption or a full disk has damaged",
          "usage: mlaforge-report repair RESULTS… [--dry-run]\n\nWhat was damaged stays as <name>.damaged. A record of "
          "which a part is lost becomes an\n"
          "interrupted one: `mlaforge run` does its cell again.\n\nExample: mlaforge-report repair results --dry-run\n",
          repair};
}
ReportCommand gc_command() {
  return {
      "gc", "remove half-written files of processes that are gone",
      "usage: mlaforge-report gc RESULTS… [--older-than SECONDS] [--dry-run]\n\nRecords and training states stay.\n\n"
      "Example: mlaforge-report gc results --dry-run\n",
      gc};
}

}  // namespace mla
