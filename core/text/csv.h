// Comma-separated values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mla {

/// One record and the line it begins on, counted from 1.
struct CsvRecord {
  std::int64_t line = 0;
  std::vector<std::string> cells;
};

/// The records of `text` (RFC 4180): cells may be quoted, and then hold commas, line breaks and doubled quotes. Empty
/// lines are passed over. `name` stands in errors. Throws DataError for a quote that is never closed.
std::vector<CsvRecord> parse_csv(const std::string& text, const std::string& name);

}  // namespace mla
