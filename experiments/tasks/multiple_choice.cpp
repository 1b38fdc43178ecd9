#include "core/evaluate/multiple_choice.h"

#include <algorithm>
#include <memory>

#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/evaluate/likelihood_journal.h"
#include "experiments/tasks/benchmark_items.h"
#include "experiments/tasks/evaluation_task.h"
#include "experiments/tasks/multiple_choice_scores.h"

namespace mla {
namespace {

constexpr const char* kMultipleChoiceName = "multiple_choice";

LikelihoodOptions likelihood_options(const EvaluationConfig& config, const MultipleChoiceTask& items) {
  LikelihoodOptions options;
  options.batch_tokens = config.options.batch_tokens;
  options.greedy = config.greedy || std::all_of(items.items.begin(), items.items.end(),
                                                [](const auto& item) { return item.choices.size() == 1; });
  return options;
}

/// What an earlier run has left of these items; empty where nothing is kept.
std::unique_ptr<LikelihoodJournal> open_journal(const TaskCall& call, const MultipleChoiceTask& items,
                                                const LikelihoodOptions& options) {
  if (!call.keeper.keeps()) return {};
  return std::make_unique<LikelihoodJournal>(call.keeper.file(call.config.label()),
                                             call.keeper.key() + requests_key(items.tokens, options));
}

class MultipleChoiceEvaluation final : public EvaluationTask {
 public:
  explicit MultipleChoiceEvaluation(Options) {}

  std::vector<std::string> reads() const override {
    return {"items", "form", "prompt", "chat", "system", "greedy", "max_items", "spread", "batch_tokens"};
  }
  Asks asks() const override { return Asks::kLogLikelihoods; }

  void validate(const EvaluationConfig& config, const std::string& path) const override { expect_items(config, path); }
  std::vector<std::string> files(const EvaluationConfig& config) const override { return files_of_items(config); }

  TaskCost cost(const TaskCall& call) const override {
    const MultipleChoiceTask& asked = items(call.config, call.surroundings);
    const LikelihoodOptions options = likelihood_options(call.config, asked);
    const std::unique_ptr<LikelihoodJournal> journal = open_journal(call, asked, options);
    TaskCost cost;
    cost.batches_done = journal ? journal->kept() : 0;
    try {
      cost.tokens = static_cast<double>(tokens_to_compute(call.decoder, asked.tokens, options, cost.batches_done));
    } catch (const DataError& error) {
      throw DataError(cat(call.config.items, ": ", error.what()));
    }
    return cost;
  }

  std::vector<ScoreRecord> scores(const TaskCall& call) const override {
    const MultipleChoiceTask& asked = items(call.config, call.surroundings);
    LikelihoodOptions options = likelihood_options(call.config, asked);
    const std::unique_ptr<LikelihoodJournal> journal = open_journal(call, asked, options);
    options.journal = journal.get();
    Progress bar(cat("evaluate ", call.stage, " ", call.config.label()),
                 tokens_to_compute(call.decoder, asked.tokens, options), "tokens");
    options.computed = [&](std::int64_t tokens) {
      bar.advance(tokens);
      check_interrupt();
    };
    options.taken_over = [&](std::int64_t tokens) { bar.take_over(tokens); };
    const MultipleChoiceResult result = multiple_choice(call.decoder, asked, options);
    if (journal && journal->restored() > 0)
      log_info(cat(call.config.label(), ": took over ", journal->restored(), " batches that an earlier run had done"));
    return multiple_choice_scores(call.stage, call.config.label(), asked, result);
  }

  bool is_of_items() const override { return true; }
  const std::vector<ContinuationGroup>* continuations(const EvaluationConfig& config,
                                                      TaskSurroundings& surroundings) const override {
    return &items(config, surroundings).tokens;
  }

 private:
  static const MultipleChoiceTask& items(const EvaluationConfig& config, TaskSurroundings& surroundings) {
    return surroundings.once<MultipleChoiceTask>(config, [&] {
      const std::optional<Chat> chat = chat_of(config, surroundings);
      return make_multiple_choice(load_items(config, "evaluate." + config.label()), surroundings.tokenizer(),
                                  surroundings.threads(), chat ? &*chat : nullptr);
    });
  }
};

const TaskRegistration<MultipleChoiceEvaluation> kMultipleChoiceTask(
    kMultipleChoiceName, "which of given continuations a model finds likeliest, on a benchmark's items");

}  // namespace

EvaluationConfig choice_evaluation() {
  EvaluationConfig config;
  config.task = kMultipleChoiceName;
  return config;
}

}  // namespace mla
