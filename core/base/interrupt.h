// Orderly stops: SIGINT and SIGTERM set a flag that long loops look at.
#pragma once

namespace mla {

/// From now on the first SIGINT or SIGTERM sets the flag; a second one ends the process at once.
void install_interrupt_handler();

/// Whether a signal has arrived. Costs one atomic load.
bool interrupted();

/// Throws Interrupted when a signal has arrived. Call it where everything worth keeping has been saved.
void check_interrupt();

}  // namespace mla
