#include "experiments/tasks/multiple_choice_scores.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "experiments/data/score_record.h"

namespace mla {
namespace {

/// Makes the records of one task.
class Recorder {
 public:
  Recorder(std::string stage, std::string task) : stage_(std::move(stage)), task_(std::move(task)) {}

  ScoreRecord& add(const std::string& metric, double value, std::int64_t count, const std::string& unit) {
    records_.push_back(new_score(stage_, task_, metric, value, count, unit, Better::kHigher));
    return records_.back();
  }

  void add(const std::string& metric, const Accuracy& accuracy) {
    ScoreRecord& record = add(metric, accuracy.value, std::ssize(accuracy.per_item), "share of items");
    record.standard_error = accuracy.standard_error;
    record.per_sample = accuracy.per_item;
  }

  /// Values of all choices, grouped by item.
  ScoreRecord& add_choices(const std::string& metric, const std::vector<std::vector<double>>& values,
                           const std::string& unit) {
    ScoreRecord record;
    for (const std::vector<double>& item : values) {
      record.per_sample.insert(record.per_sample.end(), item.begin(), item.end());
      record.group_sizes.push_back(std::ssize(item));
    }
    double sum = 0;
    for (const double value : record.per_sample) sum += value;
    const std::int64_t count = std::ssize(record.per_sample);
    ScoreRecord& added = add(metric, sum / static_cast<double>(count), count, unit);
    added.per_sample = std::move(record.per_sample);
    added.group_sizes = std::move(record.group_sizes);
    added.group_unit = "item";
    return added;
  }

  std::vector<ScoreRecord> take() { return std::move(records_); }

 private:
  std::string stage_, task_;
  std::vector<ScoreRecord> records_;
};

/// The accuracy of each group of items.
void add_groups(const std::vector<MultipleChoiceItem>& items, const std::string& metric, const Accuracy& all,
                Recorder& recorder) {
  std::map<std::string, std::vector<double>> groups;
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::string name = items[i].group;
    std::replace(name.begin(), name.end(), '/', '_');  // BLiMP writes syntax/semantics in both ways
    if (!name.empty()) groups[name].push_back(all.per_item[i]);
  }
  for (auto& [name, right] : groups) {
    Accuracy accuracy;
    const double count = static_cast<double>(right.size());
    accuracy.value = std::accumulate(right.begin(), right.end(), 0.0) / count;
    if (right.size() > 1) accuracy.standard_error = std::sqrt(accuracy.value * (1 - accuracy.value) / (count - 1));
    accuracy.per_item = std::move(right);
    recorder.add(metric + "." + name, accuracy);
  }
}

void add_perplexity(const MultipleChoiceResult& result, Recorder& recorder) {
  const double count = static_cast<double>(result.log_likelihood.size());
  double sum = 0, squares = 0;
  for (const auto& item : result.log_likelihood) sum -= item[0];
  for (const auto& item : result.log_likelihood) squares += (-item[0] - sum / count) * (-item[0] - sum / count);
  ScoreRecord& record = recorder.add("perplexity", std::exp(sum / count), std::ssize(result.log_likelihood), "");
  record.higher_is_better = false;
  if (count > 1) record.standard_error = record.value * std::sqrt(squares / (count - 1) / count);
}

void add_lengths(const MultipleChoiceTask& task, Recorder& recorder) {
  std::vector<std::vector<double>> characters, bytes, tokens;
  for (std::size_t i = 0; i < task.items.size(); ++i) {
    characters.emplace_back();
    bytes.emplace_back();
    tokens.emplace_back();
    for (const std::string& choice : task.items[i].choices) {
      characters.back().push_back(characters_of(choice));
      bytes.back().push_back(bytes_of(choice));
    }
    for (const Continuation& one : task.tokens[i])
      tokens.back().push_back(static_cast<double>(std::ssize(one.tokens) - one.context));
  }
  recorder.add_choices("choice_characters", characters, "characters");
  recorder.add_choices("choice_bytes", bytes, "bytes");
  recorder.add_choices("choice_tokens", tokens, "tokens");
}

}  // namespace

std::vector<ScoreRecord> multiple_choice_scores(const std::string& stage, const std::string& name,
                                                const MultipleChoiceTask& task, const MultipleChoiceResult& result,
                                                bool per_token) {
  Recorder recorder(stage, name);
  const bool said =
      std::all_of(task.items.begin(), task.items.end(), [](const auto& item) { return item.choices.size() == 1; });
  if (said) {
    add_perplexity(result, recorder);
  } else {
    std::vector<std::pair<const char*, const Accuracy*>> told = {{"accuracy", &result.accuracy},
                                                                 {"accuracy_normalized", &result.accuracy_normalized},
                                                                 {"accuracy_per_byte", &result.accuracy_per_byte}};
    if (per_token) told.emplace_back("accuracy_per_token", &result.accuracy_per_token);
    if (!result.unconditional.empty()) told.emplace_back("accuracy_pmi", &result.accuracy_pmi);
    for (const auto& [metric, accuracy] : told) {
      recorder.add(metric, *accuracy);
      add_groups(task.items, metric, *accuracy, recorder);
    }
  }
  if (!result.greedy.per_item.empty()) {
    recorder.add("accuracy_greedy", result.greedy);
    add_groups(task.items, "accuracy_greedy", result.greedy, recorder);
  }
  recorder.add_choices("log_likelihood", result.log_likelihood, "nats per choice");
  if (!result.unconditional.empty())
    recorder.add_choices("unconditional_log_likelihood", result.unconditional, "nats per choice");
  if (stage == "source") add_lengths(task, recorder);
  if (result.truncated > 0) {
    recorder
        .add("truncated_contexts", static_cast<double>(result.truncated), std::ssize(result.log_likelihood), "choices")
        .higher_is_better = false;
  }
  return recorder.take();
}

}  // namespace mla
