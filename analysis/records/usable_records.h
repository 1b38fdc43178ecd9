// Which records tables, figures and comparisons count.
#pragma once

#include <string>
#include <vector>

#include "analysis/records/record_set.h"

namespace mla {

struct UsableRecords {
  std::vector<const LoadedRecord*> records;
  std::vector<std::string> left_out;  ///< a line each on what does not count: unreadable, failed, interrupted, a copy
};

/// The complete and diverged records of a set, each run once: a record with the content hash and the config of one
/// before it is the same run in another folder. `set` must outlive the result.
UsableRecords usable_records(const RecordSet& set);

}  // namespace mla
