#include <filesystem>

#include "analysis/commands/commands.h"
#include "analysis/reference/pages.h"
#include "core/base/file.h"
#include "core/base/suggest.h"
#include "core/cli/manual.h"

namespace mla {
namespace {

std::vector<NamedText> pages_of(const std::string& format) {
  if (format == "man") return man_pages(report_manual());
  if (format != "markdown") throw ConfigError(cat("--format: ", unknown_name(format, {"markdown", "man"})));
  return {{"report_commands.md", markdown_page(report_manual())},
          {"metrics.md", metrics_page()},
          {"record_fields.md", record_fields_page()}};
}

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::filesystem::path folder;
  std::string format = "markdown";
  OptionList options;
  options.argument("folder", folder, "FOLDER", "where the pages go");
  options.add("format", format, "FORMAT", "markdown | man");
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  for (const NamedText& page : pages_of(format)) {
    write_file_atomically(folder / page.name, page.text);
    streams.out << (folder / page.name).string() << "\n";
  }
  return ExitCode::kDone;
}

}  // namespace

ReportCommand reference_command() {
  return {"reference", "writes the pages of the reference: commands, metrics, fields of records",
          "usage: mlaforge-report reference FOLDER [--format markdown|man]\n\n"
          "Example: mlaforge-report reference docs/reference\n",
          run};
}

}  // namespace mla
