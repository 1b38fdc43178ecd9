// Plain aligned tables for people.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace mla {

/// Rows of text under a heading. Columns whose cells all begin like numbers are set flush right, others flush left.
class Table {
 public:
  explicit Table(std::vector<std::string> heading) : rows_{std::move(heading)} {}

  /// As many cells as the heading has.
  void add(std::vector<std::string> cells);

  void print(std::ostream& out) const;

 private:
  bool is_numeric(std::size_t column) const;
  std::vector<std::vector<std::string>> rows_;
};

/// "1 234 567": digits in groups of three.
std::string grouped(std::int64_t number);

/// `value` with `digits` significant digits.
std::string rounded(double value, int digits = 6);

}  // namespace mla
