// Which records of a sweep's cells stand, and need not be made again.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "core/store/record.h"
#include "experiments/cell/identity.h"
#include "experiments/plan/plan.h"
#include "experiments/sweep/sweep.h"

namespace mla {

/// Whether `file` is a record of this content that need not be made again. Throws DataError for one that is damaged.
bool holds_result(const std::filesystem::path& file, const CellIdentity& identity, const SweepOptions& options);

/// Whether `file` is the record of an attempt at this content that failed.
bool holds_failure(const std::filesystem::path& file, const CellIdentity& identity);

/// The record that a cell of this content has under whatever name.
std::optional<std::filesystem::path> record_of_content(const std::filesystem::path& results,
                                                       const CellIdentity& identity);

/// What a reader of a finished record, which stands in `file`, should know; "" where there is nothing.
std::string remark_on(const RunRecord& record, const std::filesystem::path& file);

/// Finds them, and warns once of each file that is damaged.
class FinishedRecords {
 public:
  explicit FinishedRecords(const SweepOptions& options) : options_(options) {}

  /// The finished record of a cell under its own name. One that another experiment made is copied and named anew.
  std::optional<RunRecord> find(const CellPlan& cell, const CellIdentity& identity);

 private:
  std::optional<RunRecord> record_at(const std::filesystem::path& file, const CellIdentity& identity);

  const SweepOptions& options_;
  std::set<std::filesystem::path> damaged_;  // that were warned of
};

}  // namespace mla
