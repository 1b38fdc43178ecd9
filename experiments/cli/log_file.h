// The log of a run, in its results.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/shell.h"

namespace mla {

/// While it lives, every event goes to the end of a file, too, one line each, also those that --quiet keeps from the
/// terminal. Processes that share a results folder share the file.
class LogFile {
 public:
  /// Throws DataError when the file cannot be written.
  LogFile(const std::filesystem::path& file, const std::vector<std::string>& command_line) {
    set_log_file(file);
    std::string words;
    for (const std::string& word : command_line) words += " " + shell_quoted(word);
    log_debug("process " + std::to_string(::getpid()) + " begins:" + words);
  }
  ~LogFile() {
    log_debug("process " + std::to_string(::getpid()) + " ends");
    set_log_file("");
  }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
};

}  // namespace mla
