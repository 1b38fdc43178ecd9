#include "core/base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "core/base/error.h"
#include "core/base/progress.h"

namespace mla {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

/// The one logger: its first sink is stderr, its second the file where there is one.
struct Log {
  spdlog::logger logger{"mla", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  std::mutex mutex;
  Log() {
    logger.sinks().front()->set_pattern("%H:%M:%S %l: %v");
    logger.sinks().front()->set_level(spdlog::level::info);
    logger.flush_on(spdlog::level::trace);
  }
};

Log& log() {
  static Log instance;
  return instance;
}

/// A file gets all events, whatever stderr shows.
void pass_what_is_wanted() {
  const auto& sinks = log().logger.sinks();
  log().logger.set_level(sinks.size() > 1 ? spdlog::level::debug : sinks.front()->level());
}

}  // namespace

void set_log_level(LogLevel level) {
  log().logger.sinks().front()->set_level(spdlog_level(level));
  pass_what_is_wanted();
}

void set_log_file(const std::filesystem::path& path) {
  const std::lock_guard lock(log().mutex);
  auto& sinks = log().logger.sinks();
  sinks.resize(1);
  pass_what_is_wanted();
  if (path.empty()) return;
  try {
    sinks.push_back(std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string()));
  } catch (const spdlog::spdlog_ex& error) {
    throw DataError(cat(path.string(), ": cannot be written: ", error.what()));
  }
  sinks.back()->set_pattern("%Y-%m-%dT%H:%M:%S%z %l: %v");
  pass_what_is_wanted();
}

void log_event(LogLevel level, std::string_view message) {
  if (!log().logger.should_log(spdlog_level(level))) return;
  std::string line(message);
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  const std::lock_guard lock(log().mutex);
  if (log().logger.sinks().front()->should_log(spdlog_level(level))) Progress::hide();
  log().logger.log(spdlog_level(level), line);
}

void log_warning_once(std::string_view message) {
  static std::mutex mutex;
  static std::set<std::string> written;
  {
    const std::lock_guard lock(mutex);
    if (!written.emplace(message).second) return;
  }
  log_warning(message);
}

}  // namespace mla
