// How a command behaves as one of several processes that mpirun started.
#pragma once

#include "core/train/collective.h"
#include "experiments/command.h"

namespace mla {

/// Prepares one of several processes: those above rank 0 show nothing, and each computes with its share of the
/// machine's processors unless --threads or OMP_NUM_THREADS says otherwise. Throws ConfigError for a command whose work
/// cannot be shared.
void prepare_process(const Collective& processes, const CommandInfo& info, const Command& command, Console& console);

/// After a failure: true when this process should tell the user, which one of them does when all failed alike. When
/// the others go on, `tell` is called and all processes are ended.
template <class Tell>
bool tells_failure(Collective& processes, ExitCode code, const Tell& tell) {
  if (!processes.all_failed()) {
    tell();
    processes.abort(static_cast<int>(code));
  }
  return processes.first();
}

}  // namespace mla
