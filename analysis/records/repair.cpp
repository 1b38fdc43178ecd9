#include "analysis/records/repair.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>

#include "analysis/records/record_set.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/store/hdf5_file.h"
#include "core/store/record.h"
#include "core/store/salvage.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// Whether the process that writes `file`, named by temporary_name(), may still live: "<target>.<host>.<pid>.<n>.tmp".
bool may_be_written(const fs::path& file, double older_than) {
  std::string name = file.stem().string();  // without .tmp
  const std::size_t number = name.rfind('.');
  const std::size_t pid = number == std::string::npos || number == 0 ? number : name.rfind('.', number - 1);
  char host[64] = {};
  ::gethostname(host, sizeof host - 1);
  if (pid != std::string::npos && name.substr(0, pid).ends_with(std::string(".") + host)) {
    const long process = std::strtol(name.c_str() + pid + 1, nullptr, 10);
    return process > 0 && (::kill(static_cast<pid_t>(process), 0) == 0 || errno == EPERM);
  }
  std::error_code error;
  const auto written = fs::last_write_time(file, error);
  if (error) return true;
  return std::chrono::duration<double>(fs::file_time_type::clock::now() - written).count() < older_than;
}

/// The record that a half-written file would become.
fs::path target_of(const fs::path& temporary) {
  const std::string name = temporary.filename().string();
  return temporary.parent_path() / name.substr(0, name.find(".h5.") + 3);
}

/// What a process found that read a damaged file, or that it crashed.
struct Salvage {
  bool good = false;
  std::string note;
};

/// Salvages `damaged` into `out` in a process of its own.
Salvage salvage_apart(const fs::path& damaged, const fs::path& out) {
  int ends[2];
  if (::pipe(ends) != 0) throw DataError(cat("pipe: ", std::strerror(errno)));
  const pid_t child = ::fork();
  if (child < 0) throw DataError(cat("fork: ", std::strerror(errno)));
  if (child == 0) {
    ::close(ends[0]);
    int code = 0;
    std::string note;
    try {
      note = salvage_record(damaged, out);
    } catch (const std::exception& error) {
      note = error.what();
      code = 1;
    }
    [[maybe_unused]] const ssize_t written = ::write(ends[1], note.data(), note.size());
    ::_exit(code);
  }
  ::close(ends[1]);
  Salvage result;
  char block[4096];
  for (ssize_t count = 0; (count = ::read(ends[0], block, sizeof block)) > 0;)
    result.note.append(block, static_cast<std::size_t>(count));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  result.good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (WIFSIGNALED(status)) result.note = "HDF5 cannot read what is left";
  return result;
}

std::optional<std::string> problem_of(const fs::path& path) {
  try {
    read_record(path);
    return {};
  } catch (const DataError& error) {
    return error.what();
  }
}

RepairResult repair_temporary(const fs::path& file, bool dry_run) {
  const fs::path target = target_of(file);
  constexpr double kSurelyGone = 3600;
  if (may_be_written(file, kSurelyGone)) return {file, RepairOutcome::kWhole, "its process may still be writing it"};
  if (problem_of(file)) return {file, RepairOutcome::kHopeless, "half-written; `gc` removes it"};
  if (fs::exists(target)) return {file, RepairOutcome::kWhole, "its record is there; `gc` removes it"};
  if (!dry_run) fs::rename(file, target);
  return {file, RepairOutcome::kRepaired, "whole, and now " + target.filename().string()};
}

RepairResult repair_record(const fs::path& file, bool dry_run) {
  const auto problem = problem_of(file);
  if (!problem) return {file, RepairOutcome::kWhole, ""};
  const fs::path rescued = temporary_name(file);
  const Salvage salvage = salvage_apart(file, rescued);
  std::error_code error;
  if (!salvage.good) {
    fs::remove(rescued, error);
    return {file, RepairOutcome::kHopeless, salvage.note};
  }
  const bool whole = salvage.note.empty();
  if (dry_run) {
    fs::remove(rescued, error);
  } else {
    fs::rename(file, file.string() + ".damaged");
    fs::rename(rescued, file);
  }
  return {file, whole ? RepairOutcome::kRepaired : RepairOutcome::kSalvaged,
          whole ? "all of its content was there" : salvage.note};
}

bool names_a_lost_record(const fs::path& reference) {
  if (reference.filename() != "record" || reference.parent_path().parent_path().filename() != ".cells") return false;
  const fs::path results = reference.parent_path().parent_path().parent_path();
  return !fs::exists(results / read_file(reference));
}

}  // namespace

std::vector<RepairResult> repair_records(const std::vector<fs::path>& paths, bool dry_run) {
  const RecordFiles files = find_records(paths);
  std::vector<RepairResult> results;
  for (const fs::path& file : files.temporary) results.push_back(repair_temporary(file, dry_run));
  for (const fs::path& file : files.records) results.push_back(repair_record(file, dry_run));
  return results;
}

GarbageReport collect_garbage(const std::vector<fs::path>& paths, double older_than, bool dry_run) {
  GarbageReport report;
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path)) throw DataError(cat(path.string(), ": not a folder"));
    std::vector<fs::path> garbage;
    for (const auto& entry : fs::recursive_directory_iterator(path, fs::directory_options::skip_permission_denied)) {
      if (!entry.is_regular_file()) continue;
      if (entry.path().extension() == ".tmp") {
        if (may_be_written(entry.path(), older_than)) {
          ++report.kept;
        } else {
          garbage.push_back(entry.path());
        }
      } else if (names_a_lost_record(entry.path())) {
        garbage.push_back(entry.path());
      }
    }
    for (const fs::path& file : garbage) {
      report.bytes += fs::file_size(file);
      report.removed.push_back(file);
      if (dry_run) continue;
      fs::remove(file);
      std::error_code not_empty;
      if (file.filename() == "record") fs::remove(file.parent_path(), not_empty);
    }
  }
  return report;
}

}  // namespace mla
