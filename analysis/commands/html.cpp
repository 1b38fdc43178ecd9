#include "analysis/commands/commands.h"
#include "analysis/page/html_report.h"
#include "core/base/file.h"

namespace mla {
namespace {

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> words;
  std::filesystem::path output = "report.html";
  std::string title = "Results";
  OptionList options;
  options.words(words);
  options.add("output,o", output, "FILE", "the file to write");
  options.add("title", title, "TEXT", "of the page");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  const HtmlReport report = make_html_report(result_paths(self, words), title);
  write_file_atomically(output, report.html);
  for (const std::string& note : report.notes) streams.err << note << "\n";
  streams.err << output.string() << ": " << report.html.size() / 1000 << " kB\n";
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
