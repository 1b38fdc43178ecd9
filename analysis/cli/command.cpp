#include "analysis/cli/command.h"

#include <algorithm>

#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kReportProgram = "mlaforge-report";
constexpr const char* kIntroduction =
    "mlaforge-report reads records (results/<experiment>/<cell>.h5) and never writes into them.\n\n"
    "usage: mlaforge-report COMMAND [ARGUMENTS]    (mlaforge-report COMMAND --help explains one)\n\n";

void show_commands(std::ostream& out) {
  out << kIntroduction;
  for (const ReportCommand& command : report_commands()) {
    const std::string name = command.name;
    out << "  " << name << std::string(10 - std::min<std::size_t>(name.size(), 9), ' ') << command.summary << "\n";
  }
  out << "\nExample: mlaforge-report table results/demo/ablation\n";
}

ExitCode dispatch(const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> known;
  for (const ReportCommand& command : report_commands()) known.emplace_back(command.name);
  if (arguments.empty()) throw ConfigError("name a command; known: " + join(known));
  if (arguments.front() == "--help" || arguments.front() == "-h" || arguments.front() == "help") {
    show_commands(streams.out);
    return ExitCode::kDone;
  }
  for (const ReportCommand& command : report_commands()) {
    if (arguments.front() == command.name)
      return command.run(command, {arguments.begin() + 1, arguments.end()}, streams);
  }
  throw ConfigError(unknown_name(arguments.front(), known));
}

}  // namespace

bool parse_arguments(const ReportCommand& command, OptionList& options, const std::vector<std::string>& arguments,
                     const ReportStreams& streams) {
  bool help = false;
  options.flag("help,h", help, "show this text");
  try {
    if (!options.parse(arguments)) {
      streams.out << command.summary << "\n\n" << command.usage << "\n" << options.help();
      return false;
    }
  } catch (const ConfigError& error) {
    throw ConfigError(cat(command.name, ": ", error.what()));
  }
  for (const std::string& note : options.notes())
    streams.err << kReportProgram << ": " << command.name << ": " << note << "\n";
  return true;
}

std::vector<std::filesystem::path> result_paths(const ReportCommand& command, const std::vector<std::string>& words) {
  if (words.empty()) throw ConfigError(cat(command.name, ": name at least one results folder or record"));
  return {words.begin(), words.end()};
}

ExitCode run_report(const std::vector<std::string>& arguments, const ReportStreams& streams) {
  const auto fail = [&](const std::exception& error, ExitCode code) {
    streams.err << kReportProgram << ": " << error.what() << "\n";
    return code;
  };
  try {
    return dispatch(arguments, streams);
  } catch (const ConfigError& error) {
    return fail(error, ExitCode::kConfig);
  } catch (const DataError& error) {
    return fail(error, ExitCode::kData);
  } catch (const std::exception& error) {
    return fail(error, ExitCode::kInternal);
  }
}

}  // namespace mla
