// How a command behaves as one of several processes that mpirun started.
#pragma once

#include "core/train/collective.h"
#include "experiments/cli/command.h"
#include "experiments/cli/failure.h"

namespace mla {

/// Prepares one of several processes: those above rank 0 show nothing, and each computes with its share of the
/// machine's processors unless --threads or OMP_NUM_THREADS says otherwise. Throws ConfigError for a command whose work
/// cannot be shared.
void prepare_process(const Collective& processes, const CommandInfo& info, const Command& command, Console& console);

/// A failure that ended a piece of work of all processes, as each of them knows it.
struct SharedFailure {
  ExitCode code = ExitCode::kInternal;
  std::string message;
  bool tells = true;  ///< whether this process is to tell the user: one of them is
  bool ends = true;   ///< whether a process ends by it, so that all must
};

/// For every process whose work has ended by an exception, `own`: which one of their failures is to be told. Waits for
/// the others, who learn of it when they next exchange something. `last`: where the process ends; else see `ends`.
SharedFailure share_failure(Collective& processes, const Failure& own, bool last);

}  // namespace mla
