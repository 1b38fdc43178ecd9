// What a record keeps of position and recall.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/statistics.h"
#include "core/evaluate/recall.h"
#include "core/store/record.h"

namespace mla {

/// Metrics exact, choice and answer_nll over all items with each one's own value, in the items' order; exact_<length>,
/// choice_<length> and answer_nll_<length> of each length; exact_<length>_at_<percent> and choice_<length>_at_<percent>
/// of each length and depth.
std::vector<ScoreRecord> recall_scores(const std::string& stage, const std::string& task, const RecallTask& asked,
                                       const RecallResult& result);

/// Metrics <metric>_<first>-<last> of per-token values by position, where `starts` is given; empty: the usual buckets.
std::vector<ScoreRecord> position_scores(const std::string& stage, const std::string& task, const std::string& metric,
                                         const std::vector<double>& values, const std::vector<std::int64_t>& positions,
                                         const SampleGroups& groups,
                                         const std::optional<std::vector<std::int64_t>>& starts, std::int64_t context,
                                         std::int64_t trained);

}  // namespace mla
