// What a record keeps of a multiple-choice evaluation.
#pragma once

#include <string>
#include <vector>

#include "core/evaluate/multiple_choice.h"
#include "core/store/record.h"

namespace mla {

/// Metrics accuracy, accuracy_normalized and accuracy_per_byte with the items' own values, and truncated_contexts where
/// there are any.
std::vector<ScoreRecord> multiple_choice_scores(const std::string& stage, const std::string& task,
                                                const MultipleChoiceResult& result);

}  // namespace mla
