// Status and scores of many records at a glance.
#pragma once

#include <ostream>

#include "analysis/records/record_set.h"
#include "core/base/json.h"

namespace mla {

/// A table of cells against stages, one block per task and metric, and the number of records skipped.
void print_summary(const RecordSet& set, std::ostream& out);
Json summary_json(const RecordSet& set);

}  // namespace mla
