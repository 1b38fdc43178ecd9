// One score of two records: the difference, and what it is worth.
#pragma once

#include <string>

#include "analysis/compare/compare.h"
#include "analysis/records/score_samples.h"

namespace mla {

/// Compares a score of one stage, task and metric. Items count as the same where their numbers and groups agree and the
/// records do not say that the evaluation read other files. `cell` is what the comparison is called.
Comparison compare_score(const std::string& cell, const ScoreOutline& before, RecordSamples& samples_before,
                         const ScoreOutline& after, RecordSamples& samples_after, const CompareOptions& options);

}  // namespace mla
