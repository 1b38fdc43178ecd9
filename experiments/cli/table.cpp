#include "experiments/cli/table.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "core/base/error.h"

namespace mla {

void Table::add(std::vector<std::string> cells) {
  expects(cells.size() == rows_.front().size(), "a row has as many cells as the heading");
  rows_.push_back(std::move(cells));
}

bool Table::is_numeric(std::size_t column) const {
  return std::all_of(rows_.begin() + 1, rows_.end(), [&](const std::vector<std::string>& row) {
    const std::string& cell = row[column];
    const std::size_t sign = !cell.empty() && cell.front() == '-' ? 1 : 0;
    return cell.size() == sign || std::isdigit(static_cast<unsigned char>(cell[sign])) != 0;
  });
}

namespace {
/// Columns that a terminal needs for UTF-8 text.
std::size_t columns_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }));
}
}  // namespace

void Table::print(std::ostream& out) const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns_of(row[i]));
  }
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string gap(widths[i] - columns_of(row[i]), ' ');
      line += (i > 0 ? "  " : "") + (is_numeric(i) ? gap + row[i] : row[i] + gap);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << '\n';
  }
}

std::string grouped(std::int64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const bool at_group = (digits.size() - i) % 3 == 0;
    if (at_group && i > 0 && digits[i - 1] != '-') text += ' ';
    text += digits[i];
  }
  return text;
}

std::string rounded(double value, int digits) {
  std::ostringstream text;
  text.precision(digits);
  text << value;
  return text.str();
}

}  // namespace mla
