// Scores of tasks that have items, as records keep them, with what is done kept for a run that goes on.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/evaluate/likelihood_journal.h"
#include "core/evaluate/multiple_choice.h"
#include "core/store/record.h"
#include "core/text/tokenizer.h"
#include "experiments/config/experiment_config.h"
#include "experiments/tasks/multiple_choice_scores.h"

namespace mla {

/// Where evaluations of one stage keep what they have done.
class EvaluationKeeper {
 public:
  /// `folder` empty: nothing is kept. `key` stands for the model where the folder does not.
  EvaluationKeeper(std::filesystem::path folder, std::string stage, std::string key = "");

  bool keeps() const { return !folder_.empty(); }
  const std::string& key() const { return key_; }
  /// A file of this stage for a task; makes the folder.
  std::filesystem::path file(const std::string& task) const;
  /// Removes this stage's files: its evaluation is done.
  void remove() const;

 private:
  std::filesystem::path folder_;
  std::string stage_, key_;
};

/// The likelihood options of an evaluation of these items.
LikelihoodOptions likelihood_options(const EvaluationConfig& task, const MultipleChoiceTask& items);

/// What an earlier run has left of these items; empty where nothing is kept.
std::unique_ptr<LikelihoodJournal> open_journal(const EvaluationKeeper& keeper, const EvaluationConfig& task,
                                                const MultipleChoiceTask& items, const LikelihoodOptions& options);

/// Scores a task of kind multiple_choice, with progress in tokens. Throws Interrupted.
std::vector<ScoreRecord> choice_task_scores(const Decoder& decoder, const std::string& stage,
                                            const EvaluationConfig& task, const MultipleChoiceTask& items,
                                            const EvaluationKeeper& keeper);

/// Scores a task of kind longbench: for each of its tasks "<label>.<task>" the metric "score", and under its own label
/// the metric "score", the mean of the tasks, and "score_english", that of the 16 English and code tasks where all are
/// there. `predictions`: a folder for TASK.jsonl files with what the model answered; empty: none. `cache`: how keys and
/// values are kept while it answers; the scores are then of tasks "<label>, cached" and "<label>.<task>, cached".
std::vector<ScoreRecord> longbench_task_scores(const Decoder& decoder, const Tokenizer& tokenizer,
                                               const std::string& stage, const EvaluationConfig& task,
                                               const EvaluationKeeper& keeper,
                                               const std::filesystem::path& predictions = {},
                                               const std::optional<CacheFormat>& cache = {});

/// Tokens that a task of kind longbench feeds the model.
double longbench_tokens(const EvaluationConfig& task, const Tokenizer& tokenizer);

}  // namespace mla
