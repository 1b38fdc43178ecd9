// Pages of the reference that describe records.
#pragma once

#include <string>

namespace mla {

/// Markdown: every metric with its task, unit, direction and meaning.
std::string metrics_page();

/// Markdown: every field of a record, from the lists by which records are written and read.
std::string record_fields_page();

}  // namespace mla
