// Means over runs, and what their errors say.
#pragma once

#include <vector>

#include "analysis/pivot/values.h"

namespace mla {

/// Over runs that differ in their seeds: the error is that of other seeds on the same samples. One run has the error of
/// its samples, and so have runs that agree, as before training, where no seed has a say. At least one value.
TableValue mean_of(const std::vector<TableValue>& values);

/// One score in each run of a cell, with its weight in the value shown.
struct WeightedPart {
  std::string task, metric;
  double weight = 1;
};

/// The parts of a value, or of the average over those values of `specs` that are shares (average_of_shares).
std::vector<WeightedPart> parts_of(const ValueSpec& value);
std::vector<WeightedPart> parts_of_average(const std::vector<ValueSpec>& specs);

/// Makes the error of `mean` that of other seeds and other samples (combine_runs() in core/base/statistics.h), from the
/// samples in the records of `items`, at least two. Scores that are computed from others take theirs (score_samples.h).
/// Different tasks' samples are independent. Returns whether the records have samples of all parts, the same in number
/// and groups in all runs, whose mean is the score; otherwise nothing is changed.
bool combine_errors(const std::vector<Item>& items, const std::vector<WeightedPart>& parts, TableValue& mean);

}  // namespace mla
