// The log: one line per event to stderr, and to a file where one is given. Never to stdout.
#pragma once

#include <filesystem>
#include <string_view>

namespace mla {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Events below `level` are dropped; the level is kInfo at the start.
void set_log_level(LogLevel level);

/// Copies all events to the end of `path` from now on, with dates; an empty path stops that.
/// Throws DataError when it cannot be opened.
void set_log_file(const std::filesystem::path& path);

/// Writes one line; line breaks in `message` become spaces. Safe from several threads.
void log_event(LogLevel level, std::string_view message);

inline void log_debug(std::string_view message) { log_event(LogLevel::kDebug, message); }
inline void log_info(std::string_view message) { log_event(LogLevel::kInfo, message); }
inline void log_warning(std::string_view message) { log_event(LogLevel::kWarning, message); }
/// The same warning again is not written: for what is found each time a file is opened.
void log_warning_once(std::string_view message);
inline void log_error(std::string_view message) { log_event(LogLevel::kError, message); }

}  // namespace mla
