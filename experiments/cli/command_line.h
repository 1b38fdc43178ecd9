// The program without its process: finds the command, parses its options, runs it, turns errors into exit codes.
#pragma once

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/cli/manual.h"
#include "experiments/cli/console.h"

namespace mla {

/// Runs `mlaforge ARGUMENTS…`. Every error becomes one line "mlaforge COMMAND: message" on `streams.err` and its exit
/// code; nothing is thrown.
ExitCode run_main(const std::vector<std::string>& arguments, Streams streams);

/// All commands with their options, for completion and the reference.
ProgramManual program_manual();

}  // namespace mla
