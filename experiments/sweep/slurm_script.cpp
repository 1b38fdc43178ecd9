#include "experiments/sweep/slurm_script.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <string_view>

#include "core/base/error.h"
#include "core/base/shell.h"

namespace mla {
namespace {

/// A value as sbatch reads it: words end at spaces and comments begin at #, except in quotes.
std::string sbatch_quoted(const std::string& name, const std::string& value) {
  const bool one_line = std::none_of(value.begin(), value.end(), [](char c) { return c >= 0 && c < ' ' && c != '\t'; });
  if (!one_line) throw ConfigError(cat("slurm: --", name, ": sbatch takes no line breaks or control characters"));
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=,:+-@%^";
  if (value.find_first_not_of(kPlain) == std::string::npos) return value;
  std::string text = "\"";
  for (const char c : value) text += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
  return text + "\"";
}

void directive(std::ostream& out, const std::string& name, const std::string& value) {
  if (!value.empty()) out << "#SBATCH --" << name << "=" << sbatch_quoted(name, value) << "\n";
}

/// What the script says itself, by the option of `mlaforge slurm` that says it; "": it has to be as it is.
const std::map<std::string, std::string>& said_otherwise() {
  static const std::map<std::string, std::string> names = {{"job-name", ""},
                                                           {"array", "--tasks and --at-once"},
                                                           {"cpus-per-task", "--cpus"},
                                                           {"partition", "--partition"},
                                                           {"account", "--account"},
                                                           {"time", "--time"},
                                                           {"mem", "--mem"},
                                                           {"gres", "--gres"},
                                                           {"gpus-per-task", "--gpus"},
                                                           {"output", ""},
                                                           {"open-mode", ""},
                                                           {"signal", "--grace"},
                                                           {"requeue", ""},
                                                           {"ntasks", ""}};
  return names;
}

/// "qos=high", "exclusive", "--constraint=a100".
void other_directive(std::ostream& out, const std::string& option) {
  const std::string bare = option.substr(std::min(option.size(), option.find_first_not_of('-')));
  const std::size_t equals = bare.find('=');
  const std::string name = bare.substr(0, equals);
  if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos)
    throw ConfigError(cat("slurm: --sbatch ", option, ": expected NAME or NAME=VALUE, a long option of sbatch"));
  if (const auto said = said_otherwise().find(name); said != said_otherwise().end()) {
    throw ConfigError(cat("slurm: --sbatch ", option, ": the script says --", name, " itself",
                          said->second.empty() ? "" : cat("; use ", said->second)));
  }
  if (equals == std::string::npos) {
    out << "#SBATCH --" << name << "\n";
  } else {
    directive(out, name, bare.substr(equals + 1));
  }
}

/// A folder as part of a pattern for file names.
std::string as_pattern(const std::string& folder) {
  if (folder.find('\\') != std::string::npos) {
    throw ConfigError(cat("slurm: ", folder, ": sbatch names no log files in a folder with a backslash in its name"));
  }
  std::string pattern;
  for (const char c : folder) pattern += c == '%' ? std::string("%%") : std::string{c};
  return pattern;
}

}  // namespace

std::string slurm_script(const std::string& experiment, const std::string& program,
                         const std::vector<std::string>& arguments, const std::string& folder, const std::string& logs,
                         std::int64_t tasks, const SlurmOptions& options) {
  std::ostringstream out;
  out << "#!/bin/bash\n";
  directive(out, "job-name", experiment);
  directive(out, "array", cat("0-", tasks - 1, options.at_once > 0 ? cat("%", options.at_once) : ""));
  directive(out, "cpus-per-task", cat(options.processors));
  directive(out, "partition", options.partition);
  directive(out, "account", options.account);
  directive(out, "time", options.time);
  directive(out, "mem", options.memory);
  directive(out, "gres", options.gres);
  if (options.gpus > 0) {
    directive(out, "ntasks", "1");  // without it Slurm counts no GPUs per task
    directive(out, "gpus-per-task", cat(options.gpus));
  }
  directive(out, "output", as_pattern(logs) + "/slurm_%A_%a.log");
  directive(out, "open-mode", "append");
  directive(out, "signal", cat("B:TERM@", options.grace_seconds));
  for (const std::string& option : options.others) other_directive(out, option);
  out << "#SBATCH --requeue\n\n"
      << "cd " << shell_quoted(folder) << " || exit 3\n"
      << "# In the background, since bash hears signals only while it waits.\n"
      << shell_quoted(program);
  for (const std::string& argument : arguments) out << ' ' << shell_quoted(argument);
  out << " --worker --quiet --threads " << options.processors << " &\n"
      << "worker=$!\n"
      << "trap 'kill -TERM $worker' TERM\n"
      << "wait $worker; code=$?\n"
      << "# A wait that a signal ends does not tell how the worker ends: it is still saving.\n"
      << "while kill -0 $worker 2>/dev/null; do wait $worker; code=$?; done\n"
      << "if [[ $code -eq 130 ]]; then\n"
      << "  echo \"stopped with its state saved; back into the queue\"\n"
      << "  scontrol requeue \"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}\"\n"
      << "fi\n"
      << "exit $code\n";
  return out.str();
}

}  // namespace mla
