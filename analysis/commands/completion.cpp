#include "analysis/commands/commands.h"
#include "core/base/suggest.h"
#include "core/cli/manual.h"

namespace mla {
namespace {

ExitCode run(const ReportCommand& self, const std::vector<std::string>& arguments, const ReportStreams& streams) {
  std::string shell;
  OptionList options;
  options.argument("shell", shell, "SHELL", join(completion_shells()));
  if (!parse_arguments(self, options, arguments, streams)) return ExitCode::kDone;
  streams.out << completion_script(shell, report_manual(), {{"completion", "shell", completion_shells()}});
  return ExitCode::kDone;
}

}  // namespace

ReportCommand completion_command() {
  return {"completion", "a script for bash, zsh or fish that completes commands, options and files",
          "usage: mlaforge-report completion SHELL\n\nExample: mlaforge-report completion bash > "
          "~/.local/share/bash-completion/completions/mlaforge-report\n",
          run};
}

}  // namespace mla
