// A Slurm job array that works on one experiment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mla {

/// What a cluster needs to know; empty strings leave the choice to the cluster's defaults.
struct SlurmOptions {
  std::string partition, account, time, memory, gres;
  std::int64_t tasks = 0;           ///< tasks of the array; 0: one per cell
  std::int64_t at_once = 0;         ///< tasks that run at the same time; 0: no limit
  std::int64_t processors = 2;      ///< of one task
  std::int64_t gpus = 0;            ///< of one task
  std::int64_t grace_seconds = 60;  ///< between the warning signal and the end of a task's time
  std::vector<std::string> others;  ///< any option of sbatch: "qos=high", "exclusive", with or without dashes before it
};

/// The batch script of an array of `tasks` tasks. Each runs `program arguments… --worker`, which takes cells that
/// nobody else is working on until none is left, so that it does not matter which task gets which cell, or when it
/// starts. Before its time is up, or when it is preempted, a task is sent SIGTERM: it saves its training state and asks
/// for its own requeue. Its exit code is the worker's: 1 when a cell of its own failed. Output goes to
/// LOGS/slurm_%A_%a.log. Throws ConfigError for what cannot be told to sbatch, such as a name with a line break, and
/// for `others` that the script says itself.
std::string slurm_script(const std::string& experiment, const std::string& program,
                         const std::vector<std::string>& arguments, const std::string& folder, const std::string& logs,
                         std::int64_t tasks, const SlurmOptions& options);

}  // namespace mla
