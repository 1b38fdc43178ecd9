#include "experiments/multiple_choice_scores.h"

namespace mla {

std::vector<ScoreRecord> multiple_choice_scores(const std::string& stage, const std::string& task,
                                                const MultipleChoiceResult& result) {
  std::vector<ScoreRecord> scores;
  const auto add = [&](const char* metric, const Accuracy& accuracy) {
    ScoreRecord record;
    record.stage = stage;
    record.task = task;
    record.metric = metric;
    record.value = accuracy.value;
    record.standard_error = accuracy.standard_error;
    record.n = std::ssize(accuracy.per_item);
    record.unit = "share of items";
    record.per_sample = accuracy.per_item;
    scores.push_back(std::move(record));
  };
  add("accuracy", result.accuracy);
  add("accuracy_normalized", result.accuracy_normalized);
  add("accuracy_per_byte", result.accuracy_per_byte);
  if (result.truncated > 0) {
    ScoreRecord record;
    record.stage = stage;
    record.task = task;
    record.metric = "truncated_contexts";
    record.value = static_cast<double>(result.truncated);
    record.n = std::ssize(result.log_likelihood);
    record.higher_is_better = false;
    record.unit = "choices";
    scores.push_back(std::move(record));
  }
  return scores;
}

}  // namespace mla
