// Work that several cells need, done once for all processes and experiments of a results folder.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "experiments/cell/claim.h"

namespace mla {

inline constexpr std::chrono::milliseconds kStagePoll{200};

/// What `read` finds in `file`; nothing where it is missing, older than `not_before`, or damaged (a warning says so).
template <class Read>
auto read_stage(const std::filesystem::path& file, std::filesystem::file_time_type not_before, const Read& read)
    -> std::optional<decltype(read(file))> {
  if (!std::filesystem::exists(file) || std::filesystem::last_write_time(file) < not_before) return {};
  try {
    return read(file);
  } catch (const DataError& error) {
    log_warning(cat("made again: ", error.what()));
    return {};
  }
}

/// The value kept in `file`, or else `make(file)`, which computes it and keeps it there. Of several processes that ask
/// at the same time one makes it, under a claim on the file's folder, and the others wait. Throws Interrupted after a
/// signal.
template <class Read, class Make>
auto shared_stage(const std::filesystem::path& file, std::filesystem::file_time_type not_before, const Read& read,
                  const Make& make) -> decltype(read(file)) {
  for (;;) {
    if (auto value = read_stage(file, not_before, read)) {
      release_dead_claims(file.parent_path());  // of one that died between keeping the value and releasing
      return *std::move(value);
    }
    if (const auto claim = Claim::attempt(file.parent_path())) {
      if (auto value = read_stage(file, not_before, read))
        return *std::move(value);  // made between the look and the claim
      remove_leftovers(file.parent_path());
      return make(file);
    }
    check_interrupt();
    std::this_thread::sleep_for(kStagePoll);
  }
}

}  // namespace mla
