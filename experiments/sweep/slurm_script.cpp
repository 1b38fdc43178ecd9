#include "experiments/sweep/slurm_script.h"

#include <sstream>

#include "core/base/error.h"
#include "core/base/shell.h"

namespace mla {
namespace {

void directive(std::ostream& out, const std::string& name, const std::string& value) {
  if (!value.empty()) out << "#SBATCH --" << name << "=" << value << "\n";
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
  directive(out, "output", logs + "/slurm_%A_%a.log");
  directive(out, "open-mode", "append");
  directive(out, "signal", cat("B:TERM@", options.grace_seconds));
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
