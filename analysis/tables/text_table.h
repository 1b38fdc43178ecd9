// Plain tables of texts: lists of findings, not of measurements (those are a Table).
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace mla {

/// Prints columns side by side, those from `first_right` on to the right.
void print_text_table(const std::vector<std::vector<std::string>>& lines, std::size_t first_right, std::ostream& out);

/// A field of a CSV file.
std::string csv_text(const std::string& text);

}  // namespace mla
