// Two sets of results, cell by cell: what became worse, what became better, and what was different about them.
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "analysis/records/record_set.h"
#include "core/base/json.h"

namespace mla {

struct CompareOptions {
  double confidence = 0.95;
  std::int64_t resamples = 10'000;
  std::uint64_t seed = 0;
};

enum class Verdict { kWorse, kUnclear, kSame, kBetter };

/// One metric of one cell and stage, in both.
struct Comparison {
  std::string cell, stage, task, metric;
  double before = 0, after = 0;
  bool higher_is_better = true;
  double difference = 0;            ///< after - before: of means over samples where there are samples
  std::optional<double> low, high;  ///< confidence interval of the difference
  std::optional<double> p_value;
  std::optional<double> p_holm;  ///< corrected for all tests of the report
  std::int64_t samples = 0;      ///< pairs of samples; 0: none in common, the interval comes from standard errors
  std::string unpaired_because;  ///< empty where there are pairs
  std::int64_t units = 0;        ///< of the bootstrap: samples, or groups of them that depend on each other
  Verdict verdict = Verdict::kUnclear;

  /// A number became none, as when training diverges: worse without a test.
  bool is_lost() const { return std::isfinite(before) && !std::isfinite(after); }
};

/// Two records of one cell.
struct MatchedCell {
  const LoadedRecord *before = nullptr, *after = nullptr;
  std::vector<std::string> config_differences;  ///< "path: a -> b"
};

struct ComparisonReport {
  std::vector<MatchedCell> cells;
  std::vector<Comparison> comparisons;  ///< worse first, the surest first; then unclear, the same, better
  std::vector<std::string> only_before, only_after;
  std::vector<std::string> provenance;  ///< "git_hash: a -> b", what differs between the two sets
  std::vector<std::string> notes;

  /// Comparisons that are tests: all that have an error, but those in which not one item differs.
  std::size_t tests() const;
  /// Those that are kWorse or kBetter by their corrected p-value.
  std::size_t surely(Verdict verdict, double confidence) const;
};

/// Matches cells by config (seeds included) and then by name, two single cells whatever they are; compares every score
/// that both have by a paired bootstrap over its items, also where it is computed from other scores' items (see
/// score_samples.h), or by standard errors where they have no items in common. Verdicts are each comparison's own;
/// p_holm is corrected for their number (Holm). Scores of the source model, which all cells of a model share, are
/// compared once.
ComparisonReport compare_results(const RecordSet& before, const RecordSet& after, const CompareOptions& options);

void print_comparison(const ComparisonReport& report, const CompareOptions& options, std::size_t limit,
                      std::ostream& out);
Json comparison_json(const ComparisonReport& report, const CompareOptions& options);

}  // namespace mla
