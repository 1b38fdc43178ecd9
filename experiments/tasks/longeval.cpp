#include "core/base/error.h"
#include "core/metrics/needle_scores.h"
#include "core/text/benchmark_forms.h"
#include "experiments/tasks/question_files.h"

namespace mla {
namespace {

/// LongEval's own lengths of answers.
constexpr std::int64_t kLineTokens = 100, kTopicTokens = 50;

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
  using Options = NeedleOptions;
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
      read_questions(file, config.max_items, set, [&](const Json& line, const std::string& where) {
        const bool number = asks_for_number(line, where);
        if (!set.questions.empty() && number != numbers)
          throw DataError(cat(where, ": a file holds either lines or topics, not both"));
        numbers = number;
        Question question;
        question.text = text_of(line, "prompt", where);
        question.prediction.id = line.contains("test_id") ? line["test_id"].dump() : cat(set.questions.size());
        question.prediction.answers = {number ? cat(expected_number(line["expected_number"], where))
                                              : answers_of(line, "topics", where).front()};
        return question;
      });
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
