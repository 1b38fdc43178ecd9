#include <sys/wait.h>

#include <array>
#include <cstdio>

#include "core/base/file.h"
#include "core/base/shell.h"
#include "experiments/cell/session.h"
#include "experiments/cli/command.h"
#include "experiments/commands/experiment_arguments.h"
#include "experiments/sweep/plan_table.h"
#include "experiments/sweep/slurm_script.h"
#include "experiments/sweep/sweep.h"

namespace mla {
namespace {

/// Runs a shell command and returns what it prints. Throws DataError when it fails.
std::string output_of(const std::string& command, const std::string& what) {
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw DataError(cat(what, ": a process cannot be started"));
  std::string text;
  std::array<char, 256> block;
  while (std::fgets(block.data(), block.size(), pipe) != nullptr) text += block.data();
  const int status = ::pclose(pipe);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    throw DataError(
        cat(what, ": not found; run this on a machine of a Slurm cluster, or write the script alone with --dry-run"));
  }
  if (status != 0) throw DataError(cat(what, ": ", text));
  return text;
}

/// Writes a job array for an experiment and submits it.
class Slurm final : public Command {
 public:
  void declare(OptionList& options) override {
    experiment_.declare(options);
    options.add("only", only_, "PATTERN", "only cells whose name matches the shell pattern, or contains it");
    options.add_count("tasks", slurm_.tasks, 0, "tasks of the array; 0: one per cell");
    options.add_count("at-once", slurm_.at_once, 0, "tasks that run at the same time; 0: no limit");
    options.add_count("cpus", slurm_.processors, 1, "processors, and threads, of one task");
    options.add("partition", slurm_.partition, "NAME", "where to run; empty: the cluster's default");
    options.add("account", slurm_.account, "NAME", "whom to charge");
    options.add("time", slurm_.time, "TIME", "limit of one task, for example 4:00:00");
    options.add("mem", slurm_.memory, "SIZE", "memory of one task, for example 8G");
    options.add("gres", slurm_.gres, "LIST", "for example gpu:1");
    options.add_count("gpus", slurm_.gpus, 0, "GPUs of one task (--device cuda uses the first); 0: none asked for");
    options.add("sbatch", slurm_.others, "NAME[=VALUE]",
                "any other option of sbatch, for example qos=high or exclusive; may be repeated");
    options.add_count("grace", slurm_.grace_seconds, 1,
                      "seconds before the limit at which a task saves and requeues itself");
    options.flag("retry-failed", retry_failed_, "run cells again that failed before");
    options.flag("dry-run", dry_run_, "write the script and do not submit it");
  }

  ExitCode run(Console& console) override {
    const ExperimentPlan plan = plan_experiment(experiment_.config, experiment_.overrides);
    const auto cells = static_cast<std::int64_t>(select_cells(plan, only_).size());
    print_plan(plan, console.text());
    const std::filesystem::path folder = std::filesystem::absolute(plan.cells.front().record.parent_path());
    const std::filesystem::path logs = folder / "logs", script = folder / "slurm.sh";
    std::filesystem::create_directories(logs);
    const std::int64_t tasks = slurm_.tasks > 0 ? std::min(slurm_.tasks, cells) : cells;
    write_file_atomically(
        script, slurm_script(plan.name, std::filesystem::read_symlink("/proc/self/exe").string(), arguments(folder),
                             std::filesystem::current_path().string(), logs.string(), tasks, slurm_));
    Session session(plan.cells);
    write_plan_file(plan, session);
    std::string job;
    if (!dry_run_) job = output_of("sbatch --parsable " + shell_quoted(script.string()), "sbatch");
    console.report({{"script", script.string()}, {"tasks", tasks}, {"job", job.empty() ? Json(nullptr) : Json(job)}});
    if (job.empty()) {
      console.text() << "submit it with: sbatch " << shell_quoted(script.string()) << "\n";
    } else {
      console.text() << "job " << job << " of " << tasks << (tasks == 1 ? " task" : " tasks")
                     << "; how far it is: mlaforge status " << shell_quoted(folder.string()) << "\n";
    }
    return ExitCode::kDone;
  }

 private:
  std::vector<std::string> arguments(const std::filesystem::path& folder) const {
    std::vector<std::string> arguments = experiment_.words();
    arguments.insert(arguments.begin(), "run");
    if (!only_.empty()) arguments.insert(arguments.end(), {"--only", only_});
    if (retry_failed_) arguments.emplace_back("--retry-failed");
    // What failed before this moment is retried, or told of by every task; what fails later by the task that ran it.
    arguments.insert(arguments.end(), {"--started", cat(file_system_time(folder).time_since_epoch().count())});
    return arguments;
  }

  ExperimentArguments experiment_;
  SlurmOptions slurm_;
  std::string only_;
  bool retry_failed_ = false, dry_run_ = false;
};

const CommandRegistration<Slurm> kSlurm(
    "slurm", "write and submit a Slurm job array for an experiment",
    {"mlaforge slurm configs/experiments/tinystories-656k.json --tasks 4 --cpus 2 --time 1:00:00",
     "mlaforge slurm configs/experiments/tinystories-656k.json --dry-run"});

}  // namespace
}  // namespace mla
