#include "analysis/tables/text_table.h"

#include <algorithm>

#include "analysis/tables/table.h"
#include "core/base/error.h"

namespace mla {

void print_text_table(const std::vector<std::vector<std::string>>& lines, std::size_t first_right, std::ostream& out) {
  std::vector<std::size_t> widths;
  for (const auto& line : lines) {
    widths.resize(std::max(widths.size(), line.size()), 0);
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], display_width(line[i]));
  }
  for (const auto& line : lines) {
    std::string text;
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string padding(widths[i] - display_width(line[i]), ' ');
      text += cat(i > 0 ? "  " : "", i < first_right ? line[i] : padding, i < first_right ? padding : line[i]);
    }
    out << text.substr(0, text.find_last_not_of(' ') + 1) << "\n";
  }
}

std::string csv_text(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted += '"';
}

}  // namespace mla
