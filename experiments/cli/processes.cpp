#include "experiments/cli/processes.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "core/base/log.h"

namespace mla {
namespace {

/// Processors that this process may run on.
std::int64_t usable_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : ::sysconf(_SC_NPROCESSORS_ONLN);
}

}  // namespace

void prepare_process(const Collective& processes, const CommandInfo& info, const Command& command, Console& console) {
  if (processes.size() == 1) return;
  if (!command.shares_work()) {
    throw ConfigError(cat(info.name, " runs as one process, not as ", processes.size(), "; start it without mpirun"));
  }
  console.quiet = console.quiet || !processes.first();
  if (console.threads > 0 || std::getenv("OMP_NUM_THREADS") != nullptr) return;
  const std::int64_t share = std::max<std::int64_t>(1, ::sysconf(_SC_NPROCESSORS_ONLN) / processes.local_size());
  const std::int64_t usable = usable_processors();
  console.threads = std::min(share, usable);
  if (usable < share && processes.first()) {
    log_warning(cat("each process is bound to ", usable, " of its ", share,
                    " processors; mpirun --bind-to none lets it use them all"));
  }
}

SharedFailure share_failure(Collective& processes, const Failure& own, bool last) {
  const GroupFailure group = processes.settle(static_cast<int>(own.code), last);
  SharedFailure shared{static_cast<ExitCode>(group.exit_code), own.message, group.rank == processes.rank(), group.ends};
  if (processes.size() == 1 || (group.ends && !last)) return shared;
  shared.message = processes.text_of(group.rank, own.message);
  if (group.rank > 0) shared.message = cat("process ", group.rank, ": ", shared.message);
  return shared;
}

}  // namespace mla
