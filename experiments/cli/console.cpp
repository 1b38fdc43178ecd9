#include "experiments/cli/console.h"

#include <algorithm>
#include <thread>

namespace mla {

Console::Console(Streams streams, std::vector<std::string> command_line)
    : streams_(streams), command_line_(std::move(command_line)) {}

std::ostream& Console::text() {
  if (!json) return streams_.out;
  return quiet ? nowhere_ : streams_.err;
}

int Console::workers() const {
  return static_cast<int>(threads > 0 ? threads : std::max(1U, std::thread::hardware_concurrency()));
}

void Console::report(const Json& object) {
  if (json) print(object);
}

void Console::print(const Json& object) {
  // Decoded text may end in the middle of a character.
  streams_.out << object.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
}

}  // namespace mla
