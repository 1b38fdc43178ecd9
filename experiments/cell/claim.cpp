#include "experiments/cell/claim.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <sstream>
#include <thread>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/file.h"

namespace mla {
namespace {

using std::filesystem::path;

constexpr std::string_view kPrefix = "claim.";

path claim_file(const path& folder, std::int64_t number) { return folder / cat(kPrefix, number); }

/// The number of the latest claim, 0 for none. `error` says why the folder could not be read through.
std::int64_t latest_claim(const path& folder, std::error_code& error) {
  std::int64_t latest = 0;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    std::int64_t number = 0;
    const char* last = name.data() + name.size();
    const auto [rest, failure] = std::from_chars(name.data() + kPrefix.size(), last, number);
    if (failure == std::errc() && rest == last) latest = std::max(latest, number);
  }
  return latest;
}

std::int64_t latest_claim(const path& folder) {
  std::error_code ignored;
  return latest_claim(folder, ignored);
}

/// A system file's text without its last line break; empty where it cannot be read.
std::string system_text(const path& file) {
  try {
    std::string text = read_file(file);
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  } catch (const DataError&) {
    return {};
  }
}

/// What the kernel tells of a process.
struct ProcessState {
  bool seen = false;         ///< whether it tells anything: no such process, or one that is hidden from this user
  bool ended = false;        ///< dead, and only waiting to be asked how it ended
  std::int64_t started = 0;  ///< clock ticks since boot
};

/// Fields 3 and 22 of /proc/PID/stat. The second field may hold spaces and brackets.
ProcessState state_of(std::int64_t pid) {
  const std::string text = system_text(cat("/proc/", pid, "/stat"));
  const std::size_t bracket = text.rfind(')');
  if (bracket == std::string::npos) return {};
  std::istringstream fields(text.substr(bracket + 1));
  std::string state, skipped;
  fields >> state;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  ProcessState process{.seen = true, .ended = state == "Z" || state == "X"};
  fields >> process.started;
  return process;
}

/// Whether its pid means something here. Where the system tells too little of itself, it does not.
bool is_of_this_kernel(const ProcessIdentity& process) {
  const ProcessIdentity self = this_process();
  return !self.boot.empty() && !self.pid_namespace.empty() && process.host == self.host && process.boot == self.boot &&
         process.pid_namespace == self.pid_namespace;
}

/// Whether a process of this boot and pid namespace lives; nothing where it is hidden from this user.
std::optional<bool> lives_here(const ProcessIdentity& holder) {
  const ProcessState process = state_of(holder.pid);
  if (process.seen) return !process.ended && process.started == holder.started;
  const bool exists = ::kill(static_cast<pid_t>(holder.pid), 0) == 0 || errno != ESRCH;
  return exists ? std::nullopt : std::optional(false);
}

/// The time since a file was touched, by the clock of its own file system where a look at that is allowed. Nothing for
/// a file that is gone.
std::optional<std::filesystem::file_time_type::duration> age_of(const path& file) {
  std::filesystem::file_time_type now;
  try {
    now = file_system_time(file.parent_path());
  } catch (const std::runtime_error&) {
    now = std::filesystem::file_time_type::clock::now();  // the folder is another user's: a watcher only reads
  }
  std::error_code gone;
  const auto touched = std::filesystem::last_write_time(file, gone);
  return gone ? std::nullopt : std::optional(now - touched);
}

std::optional<ProcessIdentity> holder_in(const path& file) {
  try {
    ProcessIdentity holder;
    read_fields(read_json(file), "", holder);
    return holder;
  } catch (const std::runtime_error&) {
    return {};  // released this moment, or damaged
  }
}

bool same(const ProcessIdentity& a, const ProcessIdentity& b) { return write_fields(a) == write_fields(b); }

/// Whether the holder named in `file` lives; one that cannot be read (a machine lost power) has only its file's age.
bool alive(const path& file, const std::optional<ProcessIdentity>& holder, const ClaimTiming& timing) {
  if (holder && is_of_this_kernel(*holder)) {
    if (const auto lives = lives_here(*holder)) return *lives;
  }
  const auto age = age_of(file);
  return age && *age < timing.stale;
}

/// link(2), which over NFS may fail though it has been done: an answer was lost and the question asked again. The file
/// that was linked knows.
bool link_file(const path& from, const path& to) {
  if (::link(from.c_str(), to.c_str()) == 0) return true;
  const int error = errno;
  struct stat info {};
  const bool done = ::stat(from.c_str(), &info) == 0 && info.st_nlink == 2;
  errno = error;
  return done;
}

/// Makes claim `number` with this process's identity; false when it exists, or when its holder, tidying up, has taken
/// this process's unfinished file for a leftover.
bool make_claim(const path& folder, std::int64_t number) {
  const path file = claim_file(folder, number), temporary = temporary_name(file);
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) throw DataError(cat(folder.string(), ": a claim cannot be written: ", std::strerror(errno)));
  const std::string text = write_fields(this_process()).dump();
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int write_error = errno;
  ::close(fd);
  const bool linked = written && link_file(temporary, file);
  const int link_error = errno;
  ::unlink(temporary.c_str());
  if (!written) throw DataError(cat(folder.string(), ": a claim cannot be written: ", std::strerror(write_error)));
  if (!linked && link_error != EEXIST && link_error != ENOENT) {
    throw DataError(cat(folder.string(), ": a claim cannot be made: ", std::strerror(link_error)));
  }
  return linked;
}

}  // namespace

ProcessIdentity this_process() {
  static const ProcessIdentity base = [] {
    ProcessIdentity identity;
    char host[256] = {};
    if (::gethostname(host, sizeof host - 1) == 0) identity.host = host;
    identity.boot = system_text("/proc/sys/kernel/random/boot_id");
    std::error_code ignored;
    identity.pid_namespace = std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string();
    return identity;
  }();
  ProcessIdentity identity = base;
  identity.pid = ::getpid();
  identity.started = state_of(identity.pid).started;
  return identity;
}

/// Touches a claim's file for as long as it lives, and looks whether it is still there.
class Claim::Heartbeat {
 public:
  Heartbeat(path file, std::chrono::milliseconds interval, std::function<bool()> lost)
      : thread_([this, file = std::move(file), interval, lost = std::move(lost)](const std::stop_token& stop) {
          std::unique_lock lock(mutex_);
          while (!wake_.wait_for(lock, stop, interval, [] { return false; }) && !stop.stop_requested()) {
            ::utimensat(AT_FDCWD, file.c_str(), nullptr, 0);
            if (lost()) lost_ = true;
          }
        }) {}

  const std::atomic<bool>& lost() const { return lost_; }

 private:
  std::atomic<bool> lost_ = false;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses the others
};

Claim::Claim(path folder, std::int64_t number, const ClaimTiming& timing)
    : folder_(std::move(folder)),
      number_(number),
      heartbeat_(
          std::make_unique<Heartbeat>(claim_file(folder_, number_), timing.heartbeat, [this] { return lost(); })) {}

std::unique_ptr<Claim> Claim::attempt(const path& folder, const ClaimTiming& timing) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw DataError(cat(folder.string(), ": cannot be made: ", error.message()));
  const std::int64_t latest = latest_claim(folder, error);
  if (error) throw DataError(cat(folder.string(), ": cannot be read: ", error.message()));
  if (latest > 0) {
    const path file = claim_file(folder, latest);
    if (alive(file, holder_in(file), timing) || !std::filesystem::exists(file)) return nullptr;
  }
  if (!make_claim(folder, latest + 1)) return nullptr;
  return std::unique_ptr<Claim>(new Claim(folder, latest + 1, timing));
}

Claim::~Claim() {
  heartbeat_.reset();
  if (lost()) return;
  // The own file last: until it is gone nobody else claims the folder.
  for (std::int64_t number = 1; number <= number_; ++number) ::unlink(claim_file(folder_, number).c_str());
}

bool Claim::lost() const {
  if (latest_claim(folder_) > number_) return true;
  const path own = claim_file(folder_, number_);
  struct stat info {};
  if (::lstat(own.c_str(), &info) != 0) return errno == ENOENT || errno == ENOTDIR;
  // The number alone does not tell: a successor that is done has taken all claims away, and the next begins at 1.
  const auto holder = holder_in(own);
  return holder && !same(*holder, this_process());
}

const std::atomic<bool>& Claim::known_lost() const { return heartbeat_->lost(); }

void release_dead_claims(const path& folder) {
  if (latest_claim(folder) == 0) return;
  if (const auto claim = Claim::attempt(folder)) remove_leftovers(folder);
}

std::optional<ProcessIdentity> living_holder(const path& folder, const ClaimTiming& timing) {
  const std::int64_t latest = latest_claim(folder);
  if (latest == 0) return {};
  const path file = claim_file(folder, latest);
  auto holder = holder_in(file);
  if (!alive(file, holder, timing)) return {};
  return holder ? holder : ProcessIdentity{};
}

}  // namespace mla
