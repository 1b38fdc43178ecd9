// The shape of the paper's Tables 1, 3 and 5 from records: methods against tasks, means and errors over seeds.
#pragma once

#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "analysis/summary.h"

namespace mla {

struct ResultsTableOptions {
  std::string stage;                           ///< source, converted or fine_tuned; empty: the last that a record has
  std::string metric = "accuracy_normalized";  ///< of multiple-choice tasks
};

/// A mean over the runs of one row. With two runs or more the error is that of the mean over runs; with one it is the
/// score's own, over its items.
struct TableValue {
  double mean = 0;
  std::optional<double> error;
};

/// Runs that differ in nothing but their seed.
struct ResultsTableRow {
  std::string model, rope, low_rank, stage;
  double saving = 0;  ///< of the cache, percent
  std::size_t runs = 0;
  std::size_t diverged = 0;                         ///< of these runs; their numbers count
  std::vector<std::optional<TableValue>> values;  ///< one per column
};

/// Columns: multiple-choice tasks in percent, their average, then perplexities. The first row of a model is the source
/// model as it was, the next one the source model fine-tuned, where there is such a record.
struct ResultsTable {
  std::vector<std::string> columns;
  std::vector<ResultsTableRow> rows;
  std::vector<std::string> notes;  ///< records that are left out, and why
};

/// Throws ConfigError for an unknown stage, DataError when no record has a score of that metric or a perplexity.
ResultsTable make_results_table(const Summary& summary, const ResultsTableOptions& options);

void print(const ResultsTable& table, std::ostream& out);
Json to_json(const ResultsTable& table);

}  // namespace mla
