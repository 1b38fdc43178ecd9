// The commands of mlaforge-report.
#pragma once

#include <boost/program_options.hpp>
#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace mla {

namespace po = boost::program_options;

/// Where a command's output goes: its result to `out`, everything else to `err`.
struct ReportStreams {
  std::ostream& out;
  std::ostream& err;
  bool bold = false;  ///< whether `out` is a terminal, which shows bold text
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

/// What a command line held: options by name, and the words without one.
struct ReportArguments {
  po::variables_map given;
  std::vector<std::string> words;
  bool help = false;  ///< the help was shown, nothing is left to do

  bool has(const char* name) const { return given.count(name) > 0; }
  std::string text(const char* name) const { return has(name) ? given[name].as<std::string>() : ""; }
  std::vector<std::string> texts(const char* name) const {
    return has(name) ? given[name].as<std::vector<std::string>>() : std::vector<std::string>();
  }
};

/// Reads `arguments`; shows help for --help. Throws ConfigError for what is unknown or malformed.
ReportArguments parse_arguments(const ReportCommand& command, po::options_description options,
                                const std::vector<std::string>& arguments, const ReportStreams& streams);

/// The words as paths; throws ConfigError when there is none.
std::vector<std::filesystem::path> result_paths(const ReportCommand& command, const std::vector<std::string>& words);

/// Runs the program with main's arguments after its name. Errors end in one line on `err` and their exit code.
ExitCode run_report(const std::vector<std::string>& arguments, const ReportStreams& streams);

}  // namespace mla
