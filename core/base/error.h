// The kinds of failure the program knows, and the exit code each one ends with.
#pragma once

#include <source_location>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace mla {

/// Joins its arguments with operator<< into one string.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// `message` fit for a terminal: control characters (which would end it early, or move the cursor) spelt out, and cut
/// where it is longer than any message that is to be read.
std::string readable(std::string_view message);

/// A mistake in a config or on the command line, found before any work. Exit code 2.
/// The message names the path, the value, the rule and the alternatives, in one line.
class ConfigError : public std::runtime_error {
 public:
  explicit ConfigError(std::string_view message) : std::runtime_error(readable(message)) {}
};

/// A file that is missing, corrupt or does not fit (checkpoint, tokenizer, corpus, record). Exit code 3.
/// The message names the file, what was expected and what was found, in one line.
class DataError : public std::runtime_error {
 public:
  explicit DataError(std::string_view message) : std::runtime_error(readable(message)) {}
};

/// The run was stopped by SIGINT or SIGTERM after it had saved what it could. Exit code 130.
class Interrupted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Exit codes of the command line programs.
enum class ExitCode : int { kDone = 0, kCellsFailed = 1, kConfig = 2, kData = 3, kInternal = 4, kInterrupted = 130 };

/// Throws std::logic_error naming the call site when a promise between parts of the program is broken.
/// Never for user input: that is ConfigError or DataError.
inline void expects(bool condition, std::string_view message,
                    std::source_location where = std::source_location::current()) {
  if (!condition) throw std::logic_error(cat(where.file_name(), ":", where.line(), ": ", message));
}

}  // namespace mla
