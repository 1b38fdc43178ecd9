#include "experiments/cli/command_line.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

#include <algorithm>
#include <sstream>

#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/base/provenance.h"
#include "core/base/suggest.h"
#include "core/ops/kernels.h"
#include "experiments/cli/command.h"
#include "experiments/cli/failure.h"
#include "experiments/cli/processes.h"

namespace mla {
namespace {

constexpr const char* kProgram = "mlaforge";
constexpr const char* kSummary =
    "convert trained Llama-style models to multi-head latent attention, fine-tune and measure them";
constexpr const char* kExitCodes =
    "exit codes: 0 done, 1 some cells failed, 2 config or command line, 3 data, 4 internal, 130 interrupted";

void print_overview(std::ostream& out) {
  out << "mlaforge: " << kSummary << "\n\n"
      << "usage: mlaforge COMMAND [options]\n       mlaforge help COMMAND\n       mlaforge --version\n\ncommands:\n";
  std::size_t width = 0;
  for (const auto& [name, info] : commands()) width = std::max(width, name.size());
  for (const auto& [name, info] : commands()) {
    out << "  " << name << std::string(width - name.size() + 2, ' ') << info.summary << '\n';
  }
  out << '\n' << kExitCodes << '\n';
}

void print_version(std::ostream& out) {
  const Provenance build = collect_provenance(0, nullptr);
  out << kProgram << ' ' << build.program_version << " (git " << build.git_hash << (build.git_dirty ? ", changed" : "")
      << ", " << build.build_type << ", " << build.compiler << ", LibTorch " << TORCH_VERSION << ")\n";
}

void print_help(const CommandInfo& info, const OptionList& options, std::ostream& out) {
  out << "mlaforge " << info.name << ": " << info.summary << "\n\nusage: mlaforge " << info.name << options.usage()
      << "\n\n"
      << options.help() << "\nExample:\n";
  for (const std::string& example : info.examples) out << "  " << example << '\n';
}

void declare_common(OptionList& options, Console& console, bool& help) {
  options.section("common options");
  options.flag("json", console.json, "print one JSON object on stdout; everything else goes to stderr");
  options.add_count("threads", console.threads, 0, "threads to compute with; 0: one per processor");
  options.flag("quiet,q", console.quiet, "no progress and no log below warnings");
  options.flag("help,h", help, "show this text");
}

/// What the common options change in the process; put back at the end, since tests run many commands in one.
class ProcessSettings {
 public:
  explicit ProcessSettings(const Console& console)
      : quiet_before_(progress_style().quiet), threads_before_(at::get_num_threads()) {
    kernels_are_on();  // refuses what MLA_KERNELS may not be before any work
    if (console.quiet) {
      progress_style().quiet = true;
      set_log_level(LogLevel::kWarning);
    }
    if (console.threads > 0) at::set_num_threads(static_cast<int>(console.threads));
  }
  ~ProcessSettings() {
    progress_style().quiet = quiet_before_;
    set_log_level(LogLevel::kInfo);
    at::set_num_threads(threads_before_);
  }
  ProcessSettings(const ProcessSettings&) = delete;
  ProcessSettings& operator=(const ProcessSettings&) = delete;

 private:
  bool quiet_before_;
  int threads_before_;
};

ExitCode run_command(const CommandInfo& info, const std::vector<std::string>& arguments, Console& console,
                     const Streams& shown, const Collective& processes) {
  const std::unique_ptr<Command> command = info.make();
  OptionList options;
  bool help = false;
  command->declare(options);
  declare_common(options, console, help);
  if (!options.parse(arguments)) {
    print_help(info, options, shown.out);
    return ExitCode::kDone;
  }
  for (const std::string& note : options.notes())
    shown.err << kProgram << ' ' << info.name << ": " << note << std::endl;
  prepare_process(processes, info, *command, console);
  const ProcessSettings settings(console);
  return command->run(console);
}

const CommandInfo& find_command(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [known, info] : commands()) names.push_back(known);
  if (name.starts_with("-")) throw ConfigError(cat("expected a command, found ", name, "; known: ", join(names)));
  const auto found = commands().find(name);
  if (found == commands().end()) throw ConfigError(cat("no command '", name, "'; ", alternatives(name, names)));
  return found->second;
}

/// A command's options, which nobody will give values to.
struct Declared {
  Declared(const CommandInfo& info, Streams streams) : console(streams, {}), command(info.make()) {
    command->declare(options);
    declare_common(options, console, help);
  }
  Console console;
  std::unique_ptr<Command> command;
  OptionList options;
  bool help = false;
};

/// `mlaforge help COMMAND`.
void show_help(const std::string& name, Streams streams) {
  const CommandInfo& info = find_command(name);
  print_help(info, Declared(info, streams).options, streams.out);
}

/// The option of `moved` that is among the arguments, or "".
std::string option_among(const MovedOptions& moved, const std::vector<std::string>& arguments) {
  for (const std::string& option : moved.options) {
    for (const std::string& argument : arguments) {
      if (argument == option || argument.starts_with(option + "=")) return option;
    }
  }
  return {};
}

/// The command that takes the arguments today; `err` is told where it is another than the one named.
const CommandInfo& present_command(const CommandInfo& named, const std::vector<std::string>& arguments,
                                   std::ostream& err) {
  for (const MovedOptions& moved : moved_options()) {
    const std::string option = moved.from == named.name ? option_among(moved, arguments) : "";
    if (option.empty()) continue;
    err << kProgram << ' ' << named.name << ": `" << named.name << ' ' << option << "` is now `" << moved.to << ' '
        << option << '`' << std::endl;
    return find_command(moved.to);
  }
  return named;
}

}  // namespace

std::map<std::string, CommandInfo>& commands() {
  static std::map<std::string, CommandInfo> all;  // Made on first use: registrations run before main in no known order.
  return all;
}

std::vector<MovedOptions>& moved_options() {
  static std::vector<MovedOptions> all;
  return all;
}

ProgramManual program_manual() {
  ProgramManual manual{kProgram, kSummary, {}, kExitCodes};
  std::istringstream in;
  std::ostringstream out;
  for (const auto& [name, info] : commands()) {
    const Declared declared(info, {in, out, out});
    const OptionList& options = declared.options;
    manual.commands.push_back({name, info.summary, options.usage(), options.described(), info.examples});
  }
  return manual;
}

ExitCode run_main(const std::vector<std::string>& arguments, Streams streams) {
  std::string who = kProgram;
  std::ostream nowhere(nullptr);
  Collective* processes = &single_process();
  try {
    const std::string first = arguments.empty() ? "" : arguments.front();
    if (first == "help" && arguments.size() > 1) {
      if (arguments.size() > 2) throw ConfigError(cat("help: expected one COMMAND, found also '", arguments[2], "'"));
      show_help(arguments[1], streams);
      return ExitCode::kDone;
    }
    if (first == "--help" || first == "-h" || first == "help") {
      print_overview(streams.out);
      return ExitCode::kDone;
    }
    if (first == "--version") {
      print_version(streams.out);
      return ExitCode::kDone;
    }
    if (arguments.empty()) throw ConfigError("no command; 'mlaforge --help' lists them");
    const CommandInfo& named = find_command(first);
    who += " " + named.name;
    std::vector<std::string> command_line = {kProgram};
    command_line.insert(command_line.end(), arguments.begin(), arguments.end());
    processes = &world();
    const Streams shown = processes->first() ? streams : Streams{streams.in, nowhere, nowhere};
    Console console(shown, std::move(command_line));
    const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
    const CommandInfo& info = present_command(named, rest, shown.err);
    who = cat(kProgram, " ", info.name);
    const ExitCode code = run_command(info, rest, console, shown, *processes);
    processes->any(false);  // none of the others has failed
    return code;
  } catch (...) {
    const SharedFailure failure = share_failure(*processes, current_failure(), true);
    if (failure.tells) {
      Progress::hide();
      streams.err << who << ": " << failure.message << std::endl;
    }
    return failure.code;
  }
}

}  // namespace mla
