#include "analysis/commands/commands.h"
#include "analysis/page/html_report.h"
#include "core/base/file.h"

namespace mla {
namespace {

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  po::options_description options("options");
  options.add_options()("output", po::value<std::string>()->default_value("report.html"), "the file to write")(
      "title", po::value<std::string>()->default_value("Results"), "of the page");
  const ReportArguments parsed = parse_arguments(self, options, arguments, streams);
  if (parsed.help) return ExitCode::kDone;
  const HtmlReport report = make_html_report(result_paths(self, parsed.words), parsed.text("title"));
  write_file_atomically(parsed.text("output"), report.html);
  for (const std::string& note : report.notes) streams.err << note << "\n";
  streams.err << parsed.text("output") << ": " << report.html.size() / 1000 << " kB\n";
  return ExitCode::kDone;
}

}  // namespace

ReportCommand html_command() {
  return {"html", "one self-contained page of a results folder, which opens offline",
          "usage: mlaforge-report html RESULTS… [--output FILE] [--title TEXT]\n\n"
          "Example: mlaforge-report html results/demo --output demo.html\n",
          run};
}

}  // namespace mla
