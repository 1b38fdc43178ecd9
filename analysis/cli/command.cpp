#include "analysis/cli/command.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "core/base/message_line.h"
#include "core/base/path_error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kReportProgram = "mlaforge-report";
constexpr const char* kIntroduction =
    "mlaforge-report reads records (results/<experiment>/<cell>.h5) and never writes into them.\n\n"
    "usage: mlaforge-report COMMAND [ARGUMENTS]    (mlaforge-report help COMMAND explains one)\n\n";

void show_commands(std::ostream& out) {
  out << kIntroduction;
  for (const ReportCommand& command : report_commands()) {
    const std::string name = command.name;
    out << "  " << name << std::string(10 - std::min<std::size_t>(name.size(), 9), ' ') << command.summary << "\n";
  }
  out << "\nExample: mlaforge-report table results/demo/ablation\n";
}

/// What a command's text says in front of its options: arguments and examples.
void describe(const ReportCommand& command, const OptionList& options, CommandManual& manual) {
  const std::string text = command.usage, begin = cat("usage: ", kReportProgram, " ", command.name);
  manual = {command.name, command.summary, "", options.described(), {}};
  const std::size_t end = std::min(text.find('\n'), text.size());
  if (text.starts_with(begin)) manual.usage = text.substr(begin.size(), end - begin.size());
  std::istringstream lines(text.substr(end));
  for (std::string line; std::getline(lines, line);) {
    if (line.find(cat(kReportProgram, " ", command.name)) == std::string::npos) continue;
    for (const std::string label : {"Example:", "Examples:"}) {
      if (line.starts_with(label)) line.erase(0, label.size());
    }
    manual.examples.push_back(line.substr(line.find_first_not_of(' ')));
  }
}

ExitCode dispatch(const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::vector<std::string> known;
  for (const ReportCommand& command : report_commands()) known.emplace_back(command.name);
  if (arguments.empty()) throw ConfigError("name a command; known: " + join(known));
  if (arguments.front() == "help" && arguments.size() > 1) {
    if (arguments.size() > 2) throw ConfigError(cat("help: expected one COMMAND, found also '", arguments[2], "'"));
    return dispatch({arguments[1], "--help"}, streams);
  }
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
  if (streams.manual != nullptr) {
    describe(command, options, *streams.manual);
    return false;
  }
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

ProgramManual report_manual() {
  ProgramManual program{
      kReportProgram,
      "read records (results/<experiment>/<cell>.h5): tables, figures, comparisons; nothing is written into them",
      {},
      "exit codes: 0 done, 1 something is wrong with what was read, 2 command line, 3 data, 4 internal"};
  for (const ReportCommand& command : report_commands()) {
    std::ostringstream nowhere;
    CommandManual manual;
    command.run(command, {}, {nowhere, nowhere, false, &manual});
    program.commands.push_back(std::move(manual));
  }
  return program;
}

std::vector<std::filesystem::path> result_paths(const ReportCommand& command, const std::vector<std::string>& words) {
  if (words.empty()) throw ConfigError(cat(command.name, ": name at least one results folder or record"));
  return {words.begin(), words.end()};
}

ExitCode run_report(const std::vector<std::string>& arguments, const ReportStreams& streams) {
  const auto fail = [&](const std::exception& error, ExitCode code) {
    streams.err << kReportProgram << ": " << message_line(error.what()) << "\n";
    return code;
  };
  try {
    return dispatch(arguments, streams);
  } catch (const ConfigError& error) {
    return fail(error, ExitCode::kConfig);
  } catch (const DataError& error) {
    return fail(error, ExitCode::kData);
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(DataError(told_by_path(error)), ExitCode::kData);
  } catch (const std::exception& error) {
    return fail(error, ExitCode::kInternal);
  }
}

}  // namespace mla
