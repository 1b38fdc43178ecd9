#include "core/evaluate/multiple_choice.h"
#include "core/text/benchmark_question.h"
#include "experiments/cli/command.h"
#include "experiments/tasks/benchmark_items.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

/// A request's tokens as lighteval's details tell them: what the model is fed, and what is scored.
struct RequestTokens {
  std::vector<std::vector<std::int32_t>> input, continuation;

  explicit RequestTokens(const ContinuationGroup& group) {
    for (const Continuation& one : group) {
      input.emplace_back(one.tokens.begin(), one.tokens.end() - 1);
      continuation.emplace_back(one.tokens.begin() + one.context, one.tokens.end());
    }
  }
};

class Requests final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("file", task_.items, "FILE", "a benchmark's file or folder");
    options.require("tokenizer", tokenizer_, "PATH", "a tokenizer file, or a folder that holds one");
    options.add("form", task_.form, "FORM", "of its rows; auto: told from the first");
    options.add("prompt", task_.prompt.name, "NAME",
                "as_given, or arc, hellaswag, mmlu, openbook_qa, piqa, winogrande");
    options.add("context", task_.prompt.context, "TEMPLATE",
                "a question's text, such as 'Question: {question} Answer:'");
    options.add("choice", task_.prompt.choice, "TEMPLATE", "what follows it, such as ' {choice}'");
    options.add_count("few-shot", task_.prompt.few_shot, 0, "solved examples before each question");
    options.add("few-shot-items", task_.prompt.few_shot_items, "FILE", "where to take them from; default: FILE itself");
    options.flag("chat", task_.chat,
                 "ask by the chat template that belongs to the tokenizer, as tasks do with \"chat\": true");
    options.add("system", task_.system, "TEXT", "with --chat: the system message; default: the template's own, if any");
    options.add_count("max-items", task_.max_items, 0, "only the first N items; 0: all");
    options.renamed("limit", "max-items");
  }

  ExitCode run(Console& console) override {
    task_.validate("requests");
    const auto tokenizer = load_tokenizer(tokenizer_);
    const std::optional<Chat> chat = chat_of(task_, tokenizer_, *tokenizer);
    const Chat* const asked = chat ? &*chat : nullptr;
    const MultipleChoiceTask task =
        make_multiple_choice(load_items(task_, "requests"), *tokenizer, console.workers(), asked);
    const BenchmarkFile file = read_benchmark(task_.items, task_.form, task_.max_items);
    const bool scored = !file.questions.front().log_likelihoods.empty();
    std::vector<std::vector<double>> told;
    for (const BenchmarkQuestion& question : file.questions) told.push_back(question.log_likelihoods);
    const MultipleChoiceResult scores = scored ? score_choices(task.items, told) : MultipleChoiceResult();
    Json items = Json::array();
    for (std::size_t i = 0; i < task.items.size(); ++i) {
      items.push_back(to_json(task, i, asked));
      if (scored) add_scores(items.back(), scores, i);
      if (!console.json) console.out() << items.back().dump() << '\n';
    }
    Json report = {{"form", file.form}, {"n", items.size()}};
    if (scored)
      report.update({{"acc", scores.accuracy.value},
                     {"acc_norm", scores.accuracy_normalized.value},
                     {"acc_per_byte", scores.accuracy_per_byte.value}});
    report["items"] = std::move(items);
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  static Json to_json(const MultipleChoiceTask& task, std::size_t index, const Chat* chat) {
    MultipleChoiceItem item = task.items[index];
    if (chat) {
      item.context = chat->text(item.context);
      for (std::string& context : item.contexts) context = chat->text(context);
    }
    const RequestTokens tokens(task.tokens[index]);
    return {{"full_prompt", item.contexts.empty() ? Json(item.context) : Json(item.contexts)},
            {"choices", item.choices},
            {"gold", Json::array({item.answer})},
            {"input_tokens", tokens.input},
            {"cont_tokens", tokens.continuation}};
  }

  static void add_scores(Json& item, const MultipleChoiceResult& scores, std::size_t index) {
    item["loglikelihood"] = scores.log_likelihood[index];
    item["acc"] = static_cast<int>(scores.accuracy.per_item[index]);
    item["acc_norm"] = static_cast<int>(scores.accuracy_normalized.per_item[index]);
    item["acc_per_byte"] = static_cast<int>(scores.accuracy_per_byte.per_item[index]);
  }

  std::filesystem::path tokenizer_;
  EvaluationConfig task_ = choice_evaluation();
};

const CommandRegistration<Requests> kRequests(
    "requests",
    "what a model is asked in a multiple-choice task, as texts and tokens; accuracies from recorded log-likelihoods",
    {"mlaforge requests ../shared/data/benchmarks/mc_simple/arc_easy_test.jsonl --prompt arc --tokenizer "
     "../shared/data/tokenizers/smollm --max-items 3",
     "mlaforge requests ../shared/data/conformance/smollm135m_lighteval/piqa.jsonl --tokenizer "
     "../shared/data/tokenizers/smollm --json"});

}  // namespace
}  // namespace mla
