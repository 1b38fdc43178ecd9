// Orderly stops: SIGINT and SIGTERM set a flag that long loops look at, and so does the loss of the work at hand.
#pragma once

#include <atomic>
#include <stdexcept>

namespace mla {

/// Another process has taken over the work at hand, which is then no longer this one's to write; other work goes on.
class TakenOver : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// From now on the first SIGINT or SIGTERM sets the flag; a second one ends the process at once.
void install_interrupt_handler();

/// Whether a signal has arrived. Costs one atomic load.
bool interrupted();

/// While it lives, the work at hand is given up once `taken` is set, by whatever thread. One at a time.
class WatchTakeover {
 public:
  explicit WatchTakeover(const std::atomic<bool>& taken);
  ~WatchTakeover();
  WatchTakeover(const WatchTakeover&) = delete;
  WatchTakeover& operator=(const WatchTakeover&) = delete;
};

/// Whether the work that is watched has been taken over.
bool taken_over();

/// Throws Interrupted when a signal has arrived, TakenOver when the work at hand has been taken over. Call it where
/// everything worth keeping has been saved.
void check_interrupt();

}  // namespace mla
