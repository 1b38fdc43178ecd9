#include "experiments/sweep/workers.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"

namespace mla {
namespace {

constexpr auto kWorkerPoll = std::chrono::milliseconds(200);
constexpr const char* kSelf = "/proc/self/exe";

struct Worker {
  pid_t pid = 0;
  std::filesystem::path log;
  bool running = true;
};

pid_t spawn(const std::vector<std::string>& arguments, const std::filesystem::path& log) {
  std::vector<char*> argv;
  const std::string name = std::filesystem::read_symlink(kSelf).string();
  argv.push_back(const_cast<char*>(name.c_str()));
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  // A group of its own: a terminal's Ctrl-C reaches this process alone, which passes it on once. Two signals would end
  // a worker before it has saved its state.
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, kSelf, &files, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) throw DataError(cat("a worker process cannot be started: ", std::strerror(error)));
  return pid;
}

/// Notes how a worker ended, from its wait status.
void note_end(const Worker& worker, int status, WorkerEnds& ends) {
  std::string how;
  if (WIFSIGNALED(status)) {
    ++ends.killed;
    how = cat("by signal ", WTERMSIG(status));
  } else {
    const auto code = static_cast<ExitCode>(WEXITSTATUS(status));
    if (code == ExitCode::kDone || code == ExitCode::kCellsFailed || code == ExitCode::kInterrupted) return;
    ++ends.failed;
    how = cat("with exit code ", WEXITSTATUS(status));
  }
  log_warning(cat("worker ", worker.pid, " was ended ", how, "; see ", worker.log.string()));
}

/// Notes the workers that have ended; whether any runs still.
bool any_running(std::vector<Worker>& workers, WorkerEnds& ends) {
  bool any = false;
  for (Worker& worker : workers) {
    int status = 0;
    if (worker.running && ::waitpid(worker.pid, &status, WNOHANG) == worker.pid) {
      worker.running = false;
      note_end(worker, status, ends);
    }
    any = any || worker.running;
  }
  return any;
}

}  // namespace

WorkerEnds run_workers(std::int64_t count, const std::vector<std::string>& arguments, const std::filesystem::path& logs,
                       const std::function<void()>& meanwhile) {
  std::filesystem::create_directories(logs);
  std::vector<Worker> workers;
  for (std::int64_t i = 1; i <= count; ++i) {
    const std::filesystem::path log = logs / cat("worker_", i, ".log");
    workers.push_back({spawn(arguments, log), log});
  }
  WorkerEnds ends;
  for (bool told = false; any_running(workers, ends);) {
    if (interrupted() && !told) {
      told = true;
      for (const Worker& worker : workers) {
        if (worker.running) ::kill(worker.pid, SIGTERM);
      }
    }
    meanwhile();
    std::this_thread::sleep_for(kWorkerPoll);
  }
  return ends;
}

void end_with_parent() { ::prctl(PR_SET_PDEATHSIG, SIGTERM); }

}  // namespace mla
