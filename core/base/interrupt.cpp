#include "core/base/interrupt.h"

#include <atomic>
#include <csignal>

#include "core/base/error.h"

namespace mla {
namespace {

std::atomic<int> signal_seen = 0;
std::atomic<const std::atomic<bool>*> takeover = nullptr;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int number) {
  signal_seen = number;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

}  // namespace

void install_interrupt_handler() {
  signal_seen = 0;
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // Reads and writes under way are finished; the loops decide when to stop.
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() { return signal_seen.load(std::memory_order_relaxed) != 0; }

WatchTakeover::WatchTakeover(const std::atomic<bool>& taken) {
  expects(takeover.exchange(&taken) == nullptr, "one piece of work is watched at a time");
}
WatchTakeover::~WatchTakeover() { takeover = nullptr; }

bool taken_over() {
  const std::atomic<bool>* taken = takeover.load(std::memory_order_relaxed);
  return taken != nullptr && taken->load(std::memory_order_relaxed);
}

void check_interrupt() {
  if (taken_over()) throw TakenOver("another process has taken this work over");
  if (interrupted()) throw Interrupted(signal_seen == SIGINT ? "interrupted (SIGINT)" : "terminated (SIGTERM)");
}

}  // namespace mla
