#include "analysis/records/summary.h"

#include "analysis/commands/commands.h"

namespace mla {
namespace {

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  po::options_description options("options");
  options.add_options()("json", "print one JSON object on stdout");
  const ReportArguments parsed = parse_arguments(self, options, arguments, streams);
  if (parsed.help) return ExitCode::kDone;
  const RecordSet set = read_records(result_paths(self, parsed.words));
  if (parsed.has("json")) {
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
