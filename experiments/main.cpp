// The mlaforge program: see experiments/cli/command_line.h.
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <iostream>

#include "core/base/memory.h"
#include "experiments/cli/command_line.h"

namespace {

/// Whether whoever read our output has gone away; `mlaforge list | head -1` is no error.
bool reader_left() {
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  return ::poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

}  // namespace

int main(int argument_count, char** arguments) {
  mla::keep_freed_memory();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // beyond a limit on their size files fail to be written, as on a full disk
  std::ios::sync_with_stdio(false);
  const mla::ExitCode code =
      mla::run_main({arguments + 1, arguments + argument_count}, {std::cin, std::cout, std::cerr});
  std::cout.flush();
  if (!std::cout && !reader_left()) {
    std::cerr << "mlaforge: standard output cannot be written" << std::endl;
    return static_cast<int>(mla::ExitCode::kData);
  }
  return static_cast<int>(code);
}
