// Cells of one set of results by the value of one config path: which values differ, by how much, how surely.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "analysis/compare/compare.h"
#include "analysis/records/record_set.h"
#include "analysis/tables/table.h"

namespace mla {

struct CompareByOptions {
  std::string by;                    ///< a config path, such as compress[0].rope.name
  std::string stage;                 ///< empty: the last one of each record
  std::vector<std::string> metrics;  ///< METRIC, or TASK/METRIC; empty: accuracy_normalized and perplexity, or else all
  double confidence = 0.95;
};

/// One score under two values of the path, over all pairs of cells that differ in nothing else.
struct PairedValues {
  std::string task, metric;
  std::string before, after;  ///< the path's values, as texts
  double mean_before = 0, mean_after = 0;
  bool higher_is_better = true;
  double difference = 0;                      ///< after - before
  std::optional<double> low = {}, high = {};  ///< confidence interval of the difference
  std::optional<double> p_value = {}, p_holm = {};
  /// The mean difference of items (or cells, where there are no items) in units of its standard deviation over them:
  /// Cohen's d of paired samples, with its interval.
  std::optional<double> effect = {}, effect_low = {}, effect_high = {};
  std::size_t cells = 0;              ///< pairs of them
  std::int64_t items = 0;             ///< of each cell; 0: cells alone were paired
  std::int64_t groups = 0;            ///< of items that depend on each other
  std::string unpaired_because = {};  ///< why items were not paired
};

struct CompareByReport {
  std::vector<PairedValues> pairs;  ///< by column of the table, then by the values
  Table table;                      ///< a row for each value, a column for each score; best and tied values marked
  std::size_t tests = 0;            ///< those that Holm's correction counts
};

/// Cells are paired where their configs are equal but for the path's value, seeds included; where a value brings
/// options of its own, where the rest of their grids' settings is. The difference of two values is the mean over pairs
/// of cells and over items. Its error is that had both been others (two-way clustering, combine_runs() in
/// core/base/statistics.h), its interval and p-value those of Student's t, with Satterthwaite's degrees of freedom. In
/// each column the values whose Holm-adjusted p against the best is above 1 - confidence are tied with it. Throws
/// ConfigError for a path that no record has, DataError where nothing can be compared.
CompareByReport compare_by(const RecordSet& set, const CompareByOptions& options);

void print_pairs(const CompareByReport& report, const CompareByOptions& options, std::size_t limit, std::ostream& out);
Json compare_by_json(const CompareByReport& report, const CompareByOptions& options);

}  // namespace mla
