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

/// Where a context that is too long for the model loses tokens.
enum class Truncation { kLeft, kRight };
std::vector<std::pair<std::string, Truncation>> enum_names(Truncation) {
  return {{"left", Truncation::kLeft}, {"right", Truncation::kRight}};
}

/// What is told besides, and how long contexts are cut.
struct ChoiceOptions {
  bool per_token = false;
  std::optional<std::string> unconditional;
  Truncation truncation = Truncation::kLeft;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("per_token", self.per_token, "tell also accuracy_per_token: log-likelihoods over tokens of the choice");
    visit("unconditional", self.unconditional,
          "tell also accuracy_pmi: log-likelihoods less those after this text instead of the question, such as "
          "\"Answer:\" or \"\" (BOS alone); null: not");
    visit("truncation", self.truncation, "where a context that is too long loses tokens: left | right");
  }
};

class MultipleChoiceEvaluation final : public EvaluationTask {
 public:
  using Options = ChoiceOptions;
  explicit MultipleChoiceEvaluation(Options options) : options_(std::move(options)) {}

  std::vector<std::string> reads() const override {
    return {"items", "form", "prompt", "chat", "system", "greedy", "max_items", "spread", "batch_tokens"};
  }
  Asks asks() const override { return Asks::kLogLikelihoods; }

  void validate(const EvaluationConfig& config, const std::string& path) const override { expect_items(config, path); }
  std::vector<std::string> files(const EvaluationConfig& config) const override { return files_of_items(config); }

  TaskCost cost(const TaskCall& call) const override {
    const MultipleChoiceTask cut = cut_items(call);
    const MultipleChoiceTask& asked = cut.items.empty() ? items(call.config, call.surroundings) : cut;
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
    std::int64_t cut_on_the_right = 0;
    const MultipleChoiceTask cut = cut_items(call, &cut_on_the_right);
    const MultipleChoiceTask& asked = cut.items.empty() ? items(call.config, call.surroundings) : cut;
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
    MultipleChoiceResult result = multiple_choice(call.decoder, asked, options);
    result.truncated += cut_on_the_right;
    if (journal && journal->restored() > 0)
      log_info(cat(call.config.label(), ": took over ", journal->restored(), " batches that an earlier run had done"));
    return multiple_choice_scores(call.stage, call.config.label(), asked, result, options_.per_token);
  }

  bool is_of_items() const override { return true; }
  const std::vector<ContinuationGroup>* continuations(const EvaluationConfig& config,
                                                      TaskSurroundings& surroundings) const override {
    return &items(config, surroundings).tokens;
  }

 private:
  const MultipleChoiceTask& items(const EvaluationConfig& config, TaskSurroundings& surroundings) const {
    return surroundings.once<MultipleChoiceTask>(config, [&] {
      const std::optional<Chat> chat = chat_of(config, surroundings);
      MultipleChoiceTask task =
          make_multiple_choice(load_items(config, "evaluate." + config.label()), surroundings.tokenizer(),
                               surroundings.threads(), chat ? &*chat : nullptr);
      if (options_.unconditional)
        add_unconditional(task, *options_.unconditional, surroundings.tokenizer(), surroundings.threads());
      return task;
    });
  }

  /// The items with contexts cut on the right to what the model takes; empty where they are cut on the left, as rows
  /// are planned.
  MultipleChoiceTask cut_items(const TaskCall& call, std::int64_t* count = nullptr) const {
    if (options_.truncation == Truncation::kLeft) return {};
    MultipleChoiceTask task = items(call.config, call.surroundings);
    const ModelSpec& spec = call.decoder.spec();
    // The last token is predicted, not read, unless the length of a row changes the function.
    const std::int64_t most = spec.max_positions + (spec.rotary().depends_on_length() ? 0 : 1);
    const std::int64_t cut = cut_contexts_right(task.tokens, most);
    if (count != nullptr) *count = cut;
    return task;
  }

  Options options_;
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
