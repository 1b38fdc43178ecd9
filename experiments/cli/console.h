// Where a command reads and writes, and how much it says.
#pragma once

#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// The three standard streams, or stand-ins for them in tests.
struct Streams {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
};

/// What a command sees of the outside: its streams under the rules of the common options.
class Console {
 public:
  /// `command_line`: the program's name and its arguments.
  Console(Streams streams, std::vector<std::string> command_line);

  /// For people: stdout, or stderr with --json; with --json --quiet it leads nowhere.
  std::ostream& text();

  /// The command's result for programs. Printed as one line on stdout with --json, otherwise dropped; call it once.
  void report(const Json& object);

  /// Prints `object` on stdout whatever the options, for commands whose output is JSON in itself.
  void print(const Json& object);

  std::istream& in() { return streams_.in; }
  /// stdout itself, for plain output that is data.
  std::ostream& out() { return streams_.out; }
  const std::vector<std::string>& command_line() const { return command_line_; }

  /// How many threads to start for work that is not tensor arithmetic.
  int workers() const;

  bool json = false;         ///< --json
  bool quiet = false;        ///< --quiet: no progress, no log below warnings
  std::int64_t threads = 0;  ///< --threads; 0: as many as there are processors

 private:
  Streams streams_;
  std::vector<std::string> command_line_;
  std::ostream nowhere_{nullptr};
};

}  // namespace mla
