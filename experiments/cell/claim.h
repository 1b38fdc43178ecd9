// Exclusive claims on folders, for processes of one machine or of many on a shared file system.
#pragma once

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/base/json.h"

namespace mla {

/// A process, described so that another one can find out whether it still lives.
struct ProcessIdentity {
  std::string host;           ///< host name
  std::string boot;           ///< id of the machine's boot
  std::string pid_namespace;  ///< pids of another namespace mean nothing here
  std::int64_t pid = 0;
  std::int64_t started = 0;  ///< start time in clock ticks since boot: pids are used again

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("host", self.host, "host name");
    visit("boot", self.boot, "id of the machine's boot");
    visit("pid_namespace", self.pid_namespace, "namespace that the pid belongs to");
    visit("pid", self.pid, "process id");
    visit("started", self.started, "start of the process, clock ticks since boot");
  }
};

ProcessIdentity this_process();

/// How long a claim stands without a sign of life, where its process cannot be looked at.
struct ClaimTiming {
  std::chrono::milliseconds heartbeat{15000};
  std::chrono::milliseconds stale{90000};
};

/// The right to work on a folder, held by at most one living process.
///
/// The holder's identity lies in "claim.<n>", made by link(2), which is atomic on local and network file systems, with
/// n one above that of the dead holder it succeeds: two processes that find the same dead holder cannot both succeed
/// it, and a holder that was only thought dead sees the higher number. A holder is dead when its process is gone, where
/// that can be seen: in the same boot of the same host and the same pid namespace. Any other is dead when its file has
/// not been touched for `stale` (a thread touches it every `heartbeat`): host names are given twice, to containers and
/// to machines that were cloned.
class Claim {
 public:
  /// Claims `folder` (made where it is missing), or returns null while another living process holds it.
  /// Throws DataError when the folder cannot be written.
  static std::unique_ptr<Claim> attempt(const std::filesystem::path& folder, const ClaimTiming& timing = {});

  /// Releases: the claim files are removed, unless another process has succeeded this one.
  ~Claim();
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;

  /// Whether another process has taken over, believing this one dead. What it holds is no longer ours to write.
  /// Looks at the folder; one that cannot be looked at this moment is no sign of it.
  bool lost() const;

  /// Set within one `heartbeat` of the loss.
  const std::atomic<bool>& known_lost() const;

 private:
  class Heartbeat;
  Claim(std::filesystem::path folder, std::int64_t number, const ClaimTiming& timing);

  std::filesystem::path folder_;
  std::int64_t number_;
  std::unique_ptr<Heartbeat> heartbeat_;
};

/// Removes the claims and half-written files that dead processes left in a folder where nothing is left to be done.
void release_dead_claims(const std::filesystem::path& folder);

/// Who holds `folder`, if a living process does. Needs no right to write there; without it, ages are taken by this
/// machine's clock instead of the file system's.
std::optional<ProcessIdentity> living_holder(const std::filesystem::path& folder, const ClaimTiming& timing = {});

}  // namespace mla
