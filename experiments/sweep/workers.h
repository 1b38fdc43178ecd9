// Several processes of this program on one machine, working on one experiment.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mla {

/// How workers ended otherwise than with all or some of their cells done.
struct WorkerEnds {
  std::int64_t killed = 0;  ///< by a signal
  std::int64_t failed = 0;  ///< with another exit code than 0, 1 (cells failed), or 130 (interrupted)
};

/// Starts `count` processes of this program with `arguments`, standard output dropped, standard error of the n-th
/// (from 1) appended to LOGS/worker_<n>.log, and waits for all of them, calling `meanwhile` a few times a second.
/// SIGINT and SIGTERM are passed on to them; they are told to stop when this process dies.
/// Warns of each that was killed or failed. Throws DataError when one cannot be started.
WorkerEnds run_workers(std::int64_t count, const std::vector<std::string>& arguments, const std::filesystem::path& logs,
                       const std::function<void()>& meanwhile);

/// For the worker: SIGTERM when the parent process ends.
void end_with_parent();

}  // namespace mla
