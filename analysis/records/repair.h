// Mending what an interruption or a full disk has left, and removing what nobody needs.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mla {

enum class RepairOutcome { kWhole, kRepaired, kSalvaged, kHopeless };

struct RepairResult {
  std::filesystem::path path;
  RepairOutcome outcome = RepairOutcome::kWhole;
  std::string note;  ///< what was done or would be, and what is lost
};

/// Looks at records and half-written files under `paths` and mends those that are damaged:
/// - a half-written file that is whole, of a process that is gone, gets its record's name where that is free;
/// - a record whose content is whole and whose end is not is written anew;
/// - of one that was cut or damaged within, what still can be read is kept, with status interrupted, so that a run does
///   the cell again. Reading damaged files can crash the HDF5 library: a process of its own does it.
/// The damaged file stays as <name>.damaged. With `dry_run` nothing is changed.
std::vector<RepairResult> repair_records(const std::vector<std::filesystem::path>& paths, bool dry_run);

struct GarbageReport {
  std::vector<std::filesystem::path> removed;
  std::size_t kept = 0;  ///< temporary files of processes that live, or may
  std::uintmax_t bytes = 0;
};

/// Removes half-written files below `paths` (also in .cells) whose process is gone: one of this host is looked at, one
/// of another counts as gone after `older_than` seconds; and references to records that are gone. Records, training
/// states and shared stages stay.
GarbageReport collect_garbage(const std::vector<std::filesystem::path>& paths, double older_than, bool dry_run);

}  // namespace mla
