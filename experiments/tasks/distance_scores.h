// What a record keeps of how far a model is from its source.
#pragma once

#include <string>
#include <vector>

#include "core/base/bootstrap.h"
#include "core/base/json.h"
#include "core/evaluate/divergence.h"
#include "core/evaluate/multiple_choice.h"
#include "core/store/record.h"
#include "experiments/tasks/evaluation_config.h"

namespace mla {

/// Metrics kl_mean, kl_median, kl_90, kl_99, top1_agreement, nll_difference and perplexity_ratio (exp of it, source
/// below); the first, the agreement and the difference with every token's own value.
std::vector<ScoreRecord> distance_scores(const std::string& stage, const std::string& task,
                                         const TokenDivergence& tokens);

/// The evaluation of the distance from the source model on another one's text, named "<its label> distance".
EvaluationConfig distance_on_text_of(const EvaluationConfig& text);

/// For every accuracy in `scores` of which `source` has one of the same task and metric over as many items: the share
/// of items that went from right to wrong or from wrong to right ("flips": Dutta et al., arXiv 2407.09141), as metric
/// flip_rate, flip_rate_normalized or flip_rate_per_byte of the stage and task of the score. From log-likelihoods of
/// all choices, also answer_changes.
std::vector<ScoreRecord> flip_scores(const std::vector<ScoreRecord>& source, const std::vector<ScoreRecord>& scores);

/// The share of items on which two models find another choice likeliest, by the sum of log-likelihoods; metric
/// answer_changes. Both results are of the same items.
ScoreRecord answer_changes(const std::string& stage, const std::string& task, const MultipleChoiceResult& source,
                           const MultipleChoiceResult& model);

/// {"value", "standard_error", "low", "high", "n", "unit"}; the interval is the 95 % one of a bootstrap over the
/// score's groups, null where the score has no samples of its own.
Json score_with_interval(const ScoreRecord& score);

}  // namespace mla
