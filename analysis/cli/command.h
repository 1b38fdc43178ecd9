// The commands of mlaforge-report.
#pragma once

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/cli/manual.h"
#include "core/cli/options.h"

namespace mla {

/// Where a command's output goes: its result to `out`, everything else to `err`.
struct ReportStreams {
  std::ostream& out;
  std::ostream& err;
  bool bold = false;                ///< whether `out` is a terminal, which shows bold text
  CommandManual* manual = nullptr;  ///< where a command is to describe itself instead of running
};

/// One command: a name, one line, and what it does with the arguments that follow its name.
struct ReportCommand {
  const char* name;
  const char* summary;
  const char* usage;  ///< arguments and examples, shown before the options
  ExitCode (*run)(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams);
};

/// All commands, in the order of --help.
const std::vector<ReportCommand>& report_commands();

/// All commands with their options, for completion and the reference.
ProgramManual report_manual();

/// Reads `arguments` into the variables of `options`, to which --help is added. Returns false, with the help shown, for
/// --help. Throws ConfigError for what is unknown or malformed.
bool parse_arguments(const ReportCommand& command, OptionList& options, const std::vector<std::string>& arguments,
                     const ReportStreams& streams);

/// The words as paths; throws ConfigError when there is none.
std::vector<std::filesystem::path> result_paths(const ReportCommand& command, const std::vector<std::string>& words);

/// Runs the program with main's arguments after its name. Errors end in one line on `err` and their exit code.
ExitCode run_report(const std::vector<std::string>& arguments, const ReportStreams& streams);

}  // namespace mla
