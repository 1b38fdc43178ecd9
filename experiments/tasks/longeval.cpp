#include "core/base/error.h"
#include "core/metrics/needle_scores.h"
#include "core/text/benchmark_forms.h"
#include "core/text/json_lines.h"
#include "experiments/tasks/question_files.h"

namespace mla {
namespace {

/// LongEval's own lengths of answers.
constexpr std::int64_t kLineTokens = 100, kTopicTokens = 50;

struct LongEvalOptions {
  std::vector<std::string> tasks;
  std::int64_t max_tokens = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("tasks", self.tasks, "names of files without .jsonl, such as 200_lines or 5_topics; empty: all of `items`");
    visit(
        "max_tokens", self.max_tokens,
        "of prompt and answer together; 0: the model's positions. What is longer is left out and counted: without its "
        "middle a line may be gone");
  }

  void validate(const std::string& path) const {
    if (max_tokens < 0) throw ConfigError(cat(path, ".max_tokens = ", max_tokens, ": must not be negative"));
  }
};

/// Lines are told by the number that they expect, topics by their list.
bool asks_for_number(const Json& line, const std::string& where) {
  const bool number = line.contains("expected_number"), topics = line.contains("topics");
  if (number == topics)
    throw DataError(cat(where, ": expected a line of LongEval with either expected_number or topics"));
  return number;
}

std::int64_t expected_number(const Json& value, const std::string& where) {
  if (!value.is_number_integer() || value.get<double>() < 0)
    throw DataError(cat(where, ": expected_number: expected a whole number from 0 on, found ", brief(value)));
  return value.get<std::int64_t>();
}

class LongEvalEvaluation final : public QuestionTask {
 public:
  using Options = LongEvalOptions;
  explicit LongEvalEvaluation(Options options)
      : QuestionTask(TooLong::kIsLeftOut, options.max_tokens), options_(std::move(options)) {}

 protected:
  /// Lines {"prompt": …, "expected_number": …}, whose answer's last number counts, or {"prompt": …, "topics": […]},
  /// whose answer has to name the first topic. A prompt stands as it is, without a beginning of the answer.
  std::vector<QuestionSet> load(const EvaluationConfig& config) const override {
    std::vector<QuestionSet> sets;
    for (const QuestionFile& file :
         question_files(config.items, options_.tasks, "evaluate." + config.label() + ".longeval")) {
      QuestionSet set;
      set.name = file.task;
      bool numbers = false;
      read_json_lines(file.path, [&](const Json& line, const std::string& where) {
        if (config.max_items > 0 && std::ssize(set.questions) >= config.max_items) return false;
        const bool number = asks_for_number(line, where);
        if (!set.questions.empty() && number != numbers)
          throw DataError(cat(where, ": a file holds either lines or topics, not both"));
        numbers = number;
        Question question;
        question.text = text_of(line, "prompt", where);
        question.prediction.id = line.contains("test_id") ? line["test_id"].dump() : cat(set.questions.size());
        question.prediction.answers = {number ? cat(expected_number(line["expected_number"], where))
                                              : answers_of(line, "topics", where).front()};
        set.questions.push_back(std::move(question));
        return true;
      });
      if (set.questions.empty()) throw DataError(cat(file.path.string(), ": holds no item"));
      set.new_tokens = numbers ? kLineTokens : kTopicTokens;
      set.score = [numbers](const Prediction& prediction) {
        const std::string& expected = prediction.answers.front();
        return numbers ? ends_with_number(prediction.text, std::stoll(expected))
                       : names_topic(prediction.text, expected);
      };
      sets.push_back(std::move(set));
    }
    return sets;
  }

 private:
  Options options_;
};

const TaskRegistration<LongEvalEvaluation> kLongEvalTask(
    "longeval", "LongEval's questions for a line's number, or the first topic, of a long text");

}  // namespace
}  // namespace mla
