// What tasks have in common whose questions a model answers in words.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/evaluate/long_context.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {

struct Question {
  std::string text;
  std::string start;      ///< what the answer begins with, and the model goes on from
  Prediction prediction;  ///< its text: what the model said
};

/// The questions of one file.
struct QuestionSet {
  std::string name;             ///< of its scores, behind the evaluation's label, and of its file of predictions
  std::int64_t new_tokens = 0;  ///< of an answer, at most
  std::vector<Question> questions;
  std::vector<std::string> stop;                   ///< texts that end an answer
  std::function<double(const Prediction&)> score;  ///< of an answer, 0 to 1
  bool takes_chat = true;                          ///< false: never asked by a chat template
};

/// Answers, greedily, and keeps them for a run that goes on; writes them into files of LongBench's form where the call
/// names a folder; also through a cell's cache. A task only reads its files.
class QuestionTask : public EvaluationTask {
 public:
  std::vector<std::string> reads() const override { return {"items", "max_items", "chat", "system", "batch_tokens"}; }
  Asks asks() const override { return Asks::kGenerations; }
  void validate(const EvaluationConfig& config, const std::string& path) const override;
  std::vector<std::string> files(const EvaluationConfig& config) const override;
  TaskCost cost(const TaskCall& call) const override;
  /// For each set "<label>.<name>" the metric "score", of the questions that the model was asked, and "too_long", how
  /// many it was not, where there are such; under the label itself the mean of the sets' scores, and what add_means()
  /// adds.
  std::vector<ScoreRecord> scores(const TaskCall& call) const override;
  bool decodes_through_cache() const override { return true; }
  CachedTaskScores scores_through_cache(const TaskCall& call, const CachedDecodingConfig&,
                                        const CacheFormat& format) const override;
  bool is_of_items() const override { return true; }

 protected:
  /// What becomes of a prompt with no room for the answer behind it.
  enum class TooLong { kLosesMiddle, kLosesBeginning, kLosesEnd, kIsLeftOut };
  QuestionTask(TooLong too_long, std::int64_t max_tokens) : too_long_(too_long), max_tokens_(max_tokens) {}

  /// Reads the files. Throws DataError naming file and line.
  virtual std::vector<QuestionSet> load(const EvaluationConfig& config) const = 0;
  /// Further means of `scores`, one a set, under `label`.
  virtual void add_means(const std::string& /*stage*/, const std::string& /*label*/,
                         const std::vector<ScoreRecord>& /*scores*/, std::vector<ScoreRecord>& /*means*/) const {}

  /// The unweighted mean of scores, as metric `metric` of `label`.
  static ScoreRecord mean_of(const std::string& stage, const std::string& label, const std::string& metric,
                             const std::vector<ScoreRecord>& scores);

 private:
  struct Asked;
  std::int64_t room(const TaskCall& call) const;
  Asked ask(const TaskCall& call, QuestionSet set) const;
  std::vector<Asked> ask_all(const TaskCall& call) const;
  void answer_all(const TaskCall& call, const CacheFormat& cache, const std::string& label, Asked& one) const;
  std::vector<ScoreRecord> answered_scores(const TaskCall& call, const CacheFormat& cache,
                                           const std::string& tail) const;

  TooLong too_long_;
  std::int64_t max_tokens_;  ///< of prompt and answer together; 0: the model's positions
};

}  // namespace mla
