// Where a result comes from: the program, the machine, the command and the data.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/json.h"

namespace mla {

/// Goes into every record. Callers add what they alone know: libraries, seed, threads and data hashes.
struct Provenance {
  std::string git_hash;
  bool git_dirty = false;
  std::string program_version;
  std::int64_t numerics_version = 1;  ///< kNumericsVersion of the program; 1 of records that do not say it
  std::string compiler;
  std::string build_type;
  Json libraries = Json::object();
  std::int64_t threads = 0;
  std::string device = "cpu";  ///< that of all records that do not say it
  std::string host;
  std::string cpu;
  std::string command_line;
  std::uint64_t seed = 0;
  Json data_hashes = Json::object();
  std::string created;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("git_hash", self.git_hash, "commit of the source tree at build time; unknown outside a git checkout");
    visit("git_dirty", self.git_dirty, "whether the source tree had uncommitted changes at build time");
    visit("program_version", self.program_version, "version of this program");
    visit("numerics_version", self.numerics_version,
          "raised when the program's numbers change; 1 in records that do not say it");
    visit("compiler", self.compiler, "compiler and its version");
    visit("build_type", self.build_type, "CMake build type");
    visit("libraries", self.libraries,
          "versions of libraries by name, and the instruction sets that their kernels and the program's own run in");
    visit("threads", self.threads, "threads used for tensor operations");
    visit("device", self.device, "where models stood and were computed; cpu in records that do not say it");
    visit("host", self.host, "host name");
    visit("cpu", self.cpu, "processor model");
    visit("command_line", self.command_line, "command line, arguments quoted where a shell needs it");
    visit("seed", self.seed, "seed of all random streams");
    visit("data_hashes", self.data_hashes, "content hashes of input files by role");
    visit("created", self.created, "time of collection, ISO 8601, UTC");
  }
  bool operator==(const Provenance&) const = default;
};

/// All that can be known without the caller's help; `arguments` are main's.
Provenance collect_provenance(int argument_count, const char* const* arguments);

/// The current time as "2025-01-31T12:00:00Z".
std::string utc_now();

}  // namespace mla
