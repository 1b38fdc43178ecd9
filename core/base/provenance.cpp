#include "core/base/provenance.h"

#include <sys/utsname.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <thread>

#include "core/base/numerics_version.h"
#include "core/base/shell.h"

// Written by cmake/build_info.cmake at every build; a build without it (a single file, another build system) says so.
#if __has_include("mla_build_info.h")
#include "mla_build_info.h"
#else
namespace mla::build_info {
constexpr const char* kGitHash = "unknown";
constexpr bool kGitDirty = false;
constexpr const char* kVersion = "unknown";
constexpr const char* kBuildType = "unknown";
}  // namespace mla::build_info
#endif

namespace mla {
namespace {

std::string compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    if (begin != std::string::npos) return line.substr(begin);
  }
  return "unknown";
}

}  // namespace

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[sizeof "2025-01-31T12:00:00Z"];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

Provenance collect_provenance(int argument_count, const char* const* arguments) {
  Provenance provenance;
  provenance.git_hash = build_info::kGitHash;
  provenance.git_dirty = build_info::kGitDirty;
  provenance.program_version = build_info::kVersion;
  provenance.numerics_version = kNumericsVersion;
  provenance.build_type = build_info::kBuildType;
  provenance.compiler = compiler_name();
  provenance.threads = std::thread::hardware_concurrency();
  utsname system{};
  provenance.host = ::uname(&system) == 0 ? system.nodename : "unknown";
  provenance.cpu = cpu_model();
  for (int i = 0; i < argument_count; ++i) {
    if (i > 0) provenance.command_line += ' ';
    provenance.command_line += shell_quoted(arguments[i]);
  }
  provenance.created = utc_now();
  return provenance;
}

}  // namespace mla
