#include "core/evaluate/recall.h"

#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "experiments/tasks/evaluation_task.h"
#include "experiments/tasks/recall_scores.h"

namespace mla {
namespace {

class RecallEvaluation final : public EvaluationTask {
 public:
  using Options = RecallOptions;
  explicit RecallEvaluation(Options options) : options_(std::move(options)) {}

  std::vector<std::string> reads() const override { return {"batch_tokens"}; }
  Asks asks() const override { return Asks::kLogLikelihoods; }
  void validate(const EvaluationConfig&, const std::string&) const override {}

  TaskCost cost(const TaskCall& call) const override {
    TaskCost cost;
    for (const ContinuationGroup& group : items(call.config, call.surroundings).tokens) {
      for (const Continuation& row : group) cost.tokens += static_cast<double>(row.tokens.size());
    }
    return cost;
  }

  std::vector<ScoreRecord> scores(const TaskCall& call) const override {
    const RecallTask& asked = items(call.config, call.surroundings);
    Progress bar(cat("evaluate ", call.stage, " ", call.config.label()), std::ssize(asked.items) * options_.choices,
                 "choices");
    return recall_scores(call.stage, call.config.label(), asked,
                         recall(call.decoder, asked, call.config.options.batch_tokens, [&](std::int64_t count) {
                           bar.advance(count);
                           check_interrupt();
                         }));
  }

  const std::vector<ContinuationGroup>* continuations(const EvaluationConfig& config,
                                                      TaskSurroundings& surroundings) const override {
    return &items(config, surroundings).tokens;
  }

 private:
  const RecallTask& items(const EvaluationConfig& config, TaskSurroundings& surroundings) const {
    return surroundings.once<RecallTask>(
        config, [&] { return make_recall_task(options_, surroundings.tokenizer(), surroundings.threads()); });
  }

  Options options_;
};

const TaskRegistration<RecallEvaluation> kRecallTask(
    "recall", "whether a pass key, needle or value is found in a long context, by length and depth");

}  // namespace
}  // namespace mla
