// Status and scores of many records at a glance.
#pragma once

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/store/record.h"

namespace mla {

/// One record, or why it could not be read.
struct SummaryEntry {
  std::filesystem::path path;
  RunRecord record;
  std::string problem;  ///< empty when the record was read
};

struct Summary {
  std::vector<SummaryEntry> entries;  ///< in order of path
};

/// All records (`.h5`) under the given folders, and the given files. Records that cannot be read are kept with their
/// problem. Throws DataError for a path that does not exist.
Summary summarize(const std::vector<std::filesystem::path>& paths);

/// Cached elements per token after compression over before; 1 for a model that was not compressed.
double cache_ratio(const RunRecord& record);

/// A table of cells against stages, one block per task and metric, and the number of records skipped.
void print(const Summary& summary, std::ostream& out);
Json to_json(const Summary& summary);

}  // namespace mla
