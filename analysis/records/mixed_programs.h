// Whether records were made by several programs, whose numbers may not compare.
#pragma once

#include <string>
#include <vector>

#include "analysis/records/record_set.h"

namespace mla {

/// The numerics version of the program that made a record (core/base/numerics_version.h): 1 where it does not say.
std::int64_t numerics_version(const RecordOutline& record);

/// One line on the numerics versions or the commits that `records` mix, with how many records are of each; "" where all
/// are of one.
std::string mixed_programs(const std::vector<const LoadedRecord*>& records);

}  // namespace mla
