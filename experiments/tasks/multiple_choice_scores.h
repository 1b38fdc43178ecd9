// What a record keeps of a multiple-choice evaluation.
#pragma once

#include <string>
#include <vector>

#include "core/evaluate/multiple_choice.h"
#include "core/store/record.h"

namespace mla {

/// Metrics accuracy, accuracy_normalized and accuracy_per_byte with the items' own values; accuracy_greedy where greedy
/// decoding was asked for, and these two alone with perplexity where each item has one choice: accuracy_greedy, and e
/// to the mean of minus the choice's log-likelihood. Groups of items have their accuracies under "<metric>.<group>".
/// log_likelihood holds every choice's, in the order of items and choices; so do, of the source model alone,
/// choice_characters, choice_bytes and choice_tokens what it may be divided by. truncated_contexts where there are any.
/// accuracy_per_token where `per_token` asks for it, accuracy_pmi and unconditional_log_likelihood where choices were
/// asked without their questions, too.
std::vector<ScoreRecord> multiple_choice_scores(const std::string& stage, const std::string& name,
                                                const MultipleChoiceTask& task, const MultipleChoiceResult& result,
                                                bool per_token = false);

}  // namespace mla
