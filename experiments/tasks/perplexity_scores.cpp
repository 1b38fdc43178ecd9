#include "experiments/tasks/perplexity_scores.h"

#include "experiments/data/score_record.h"

namespace mla {

std::vector<ScoreRecord> perplexity_scores(const std::string& stage, const std::string& task,
                                           const PerplexityResult& result) {
  std::vector<ScoreRecord> scores;
  scores.push_back(
      new_score(stage, task, "nll", result.mean_nll, result.scored_tokens, "nats per token", Better::kLower));
  scores.back().standard_error = result.standard_error;
  scores.back().per_sample = result.nll;
  scores.back().group_sizes = result.groups.sizes;
  scores.push_back(new_score(stage, task, "perplexity", result.perplexity, result.scored_tokens, "", Better::kLower));
  scores.back().standard_error = result.perplexity * result.standard_error;
  if (result.bits_per_byte) {
    scores.push_back(new_score(stage, task, "bits_per_byte", *result.bits_per_byte, result.scored_tokens,
                               "bits per byte", Better::kLower));
    scores.back().standard_error = *result.bits_per_byte * result.standard_error / result.mean_nll;
  }
  for (ScoreRecord& record : scores) record.group_unit = result.groups.unit;
  return scores;
}

}  // namespace mla
