// One table value, whatever it is made of and however it is written down.
#pragma once

#include <cstddef>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// A mean over the runs of one cell of a table.
struct TableValue {
  double mean = 0;
  /// Standard error: over runs where there are two or more, or else over the samples of the one.
  std::optional<double> error;
  std::optional<double> run_error, sample_error;  ///< each of the two by itself, where it is known
  std::size_t runs = 1;
  bool best = false;  ///< of its column
  bool tied = false;  ///< not told from the best of its column by a test
};

/// What the rows are told apart by: a text, or a number that stands on the right.
struct TableKey {
  std::string name, heading;
  bool number = false;
};

struct TableColumn {
  std::string name;
  std::string unit;  ///< "%" for shares; empty where there is none
  bool higher_is_better = true;
  bool is_number = false;  ///< of a run or its config, not a score: shown with as many digits as it has
  bool has_best = true;    ///< whether a smaller or larger value is better at all
};

/// Where a row's numbers come from. A difference is ours minus the paper's.
enum class RowOrigin { kOurs, kPaper, kDifference };

struct TableRow {
  std::vector<Json> keys;                         ///< one per key: a text, a number or null
  std::vector<std::optional<TableValue>> values;  ///< one per column; an empty one was not measured
  std::size_t runs = 0, diverged = 0;             ///< runs behind the row; numbers of diverged ones count
  RowOrigin origin = RowOrigin::kOurs;
};

struct Table {
  std::string title;
  std::vector<TableKey> keys;
  std::vector<TableColumn> columns;
  std::vector<TableRow> rows;
  std::vector<std::string> notes;     ///< what a reader must know of the numbers
  std::vector<std::string> left_out;  ///< records that are not in the table, and why
  bool both_errors = false;           ///< errors over several runs are of other seeds and other samples
  bool has_ties = false;              ///< whether values were tested against the best of their column
  bool has_paper = false;             ///< whether rows of a paper stand beside ours
};

/// "ours", "paper", "difference".
std::string origin_name(RowOrigin origin);

/// Marks the best value of each column among rows for which `candidate` holds, where two of them have one.
template <class Candidate>
void mark_best(Table& table, const Candidate& candidate) {
  for (std::size_t column = 0; column < table.columns.size(); ++column) {
    if (!table.columns[column].has_best) continue;
    std::vector<TableValue*> reached;
    for (TableRow& row : table.rows) {
      if (row.values[column] && candidate(row)) reached.push_back(&*row.values[column]);
    }
    if (reached.size() < 2) continue;
    const bool higher = table.columns[column].higher_is_better;
    double best = reached.front()->mean;
    for (const TableValue* value : reached) {
      if (higher ? value->mean > best : value->mean < best) best = value->mean;
    }
    for (TableValue* value : reached) value->best = value->mean == best;
  }
}

/// Formats by name: terminal, markdown, csv, latex, json.
const std::vector<std::string>& table_formats();

/// Writes `table` in a format; `bold` is whether a terminal shows bold text (others mark the best with *).
/// Throws ConfigError for an unknown format.
void write_table(const Table& table, const std::string& format, bool bold, std::ostream& out);

/// The texts of a row as they stand in a table for people: keys, runs, values.
std::vector<std::string> row_texts(const Table& table, const TableRow& row);
std::vector<std::string> headings(const Table& table);
/// What stands under a table for people, a line each.
std::vector<std::string> footnotes(const Table& table);

Json to_json(const Table& table);

/// "0.123" and "12.3": three decimals below ten, one above; nothing where there is no number.
std::string short_number(double value);
/// Columns that a terminal needs for UTF-8 text.
std::size_t display_width(const std::string& text);

}  // namespace mla
