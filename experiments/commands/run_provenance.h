// What a record says of the command that makes it.
#pragma once

#include "core/base/provenance.h"
#include "experiments/cli/console.h"

namespace mla {

/// Program, machine, libraries with the instruction sets that are in use, and the command line that the console was
/// made with; seed, threads and data hashes are the caller's.
Provenance provenance_of(const Console& console);

}  // namespace mla
