// The samples behind a score: its own, or those of the scores that it is computed from.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "analysis/records/record_set.h"
#include "core/store/hdf5_file.h"

namespace mla {

/// Samples of a mean, and how the mean enters the score: score = sum over its parts of factor * f(mean).
struct SamplePart {
  std::string task;  ///< whose items these are
  std::vector<double> values;
  std::vector<std::int64_t> groups;  ///< of samples that depend on each other; empty: none do
  double factor = 1;
  bool exponential = false;  ///< f is exp; otherwise the mean itself

  /// d score / d mean, at the mean.
  double slope() const;
};

/// Reads samples of one record; opens its file once, when the first are wanted.
class RecordSamples {
 public:
  explicit RecordSamples(const LoadedRecord& record) : record_(record) {}

  const LoadedRecord& record() const { return record_; }

  /// The parts of a score, or none where the record has no samples of one of them, or they do not give the score's
  /// value. Besides scores with samples of their own, this knows:
  /// - perplexity, exp of the mean NLL, or of a text's mean negative log-likelihood;
  /// - perplexity_ratio, exp of the mean difference of NLLs; bits_per_byte, the mean NLL in another unit;
  /// - kl_median, kl_90, kl_99: quantiles, by what each sample contributes to them to first order;
  /// - means over tasks: evaluations of task `mean`, and LongBench's.
  /// Measured times have no items. Throws DataError where the record cannot be read.
  std::vector<SamplePart> parts_of(const ScoreOutline& score);

 private:
  struct Arrays {
    std::vector<double> values;
    std::vector<std::int64_t> groups;
  };

  const Arrays& arrays(const std::string& stage, const std::string& task, const std::string& metric);
  const ScoreOutline* find(const std::string& stage, const std::string& task, const std::string& metric) const;
  std::vector<SamplePart> parts_of(const ScoreOutline& score, int depth);
  std::vector<SamplePart> own(const ScoreOutline& score);
  std::vector<SamplePart> from_another(const ScoreOutline& score);
  std::vector<SamplePart> from_tasks(const ScoreOutline& score, int depth);
  std::vector<SamplePart> single(const ScoreOutline& score, const std::string& metric);

  const LoadedRecord& record_;
  std::optional<Hdf5File> file_;
  std::map<std::string, Arrays> arrays_;
};

/// Whether two parts can be of the same items: as many samples in equal groups, all finite. "" where they can;
/// otherwise why not.
std::string pairing_problem(const SamplePart& before, const SamplePart& after);

}  // namespace mla
