#include "analysis/records/summary.h"

#include "analysis/commands/commands.h"

namespace mla {
namespace {

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> words;
  bool json = false;
  OptionList options;
  options.words(words);
  options.flag("json", json, "print one JSON object on stdout");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  const RecordSet set = read_records(result_paths(self, words));
  if (json) {
    streams.out << summary_json(set).dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  } else {
    print_summary(set, streams.out);
  }
  return ExitCode::kDone;
}

}  // namespace

ReportCommand summary_command() {
  return {"summary", "status and scores of every record",
          "usage: mlaforge-report summary RESULTS… [--json]\n\nExample: mlaforge-report summary results/demo\n", run};
}

}  // namespace mla
