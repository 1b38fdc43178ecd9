#include <array>
#include <optional>

#include "core/base/error.h"
#include "core/metrics/needle_scores.h"
#include "core/text/benchmark_forms.h"
#include "core/text/json_lines.h"
#include "experiments/tasks/question_files.h"

namespace mla {
namespace {

/// What RULER's tasks have in common by the first part of their names: how long answers may be, and whether one of the
/// references is enough.
struct RulerKind {
  const char* prefix;
  std::int64_t new_tokens;
  bool any;
};
constexpr std::array<RulerKind, 5> kRulerKinds = {
    {{"niah", 128, false}, {"vt", 30, false}, {"cwe", 120, false}, {"fwe", 50, false}, {"qa", 32, true}}};

/// How the beginnings of answers start, which stand at the end of an input.
constexpr std::array kRulerStarts = {" The special magic ", " Answer:"};
/// Among its last so many bytes.
constexpr std::size_t kStartWithin = 400;

struct RulerOptions {
  std::vector<std::string> tasks;
  std::int64_t max_tokens = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("tasks", self.tasks, "names of files without .jsonl, such as niah_multikey_3_4096; empty: all of `items`");
    visit(
        "max_tokens", self.max_tokens,
        "of prompt and answer together; 0: the model's positions. What is longer is left out and counted: without its "
        "middle a needle may be gone");
  }

  void validate(const std::string& path) const {
    if (max_tokens < 0) throw ConfigError(cat(path, ".max_tokens = ", max_tokens, ": must not be negative"));
  }
};

const RulerKind& kind_of_ruler(const QuestionFile& file) {
  for (const RulerKind& kind : kRulerKinds) {
    if (file.task == kind.prefix || file.task.starts_with(cat(kind.prefix, "_"))) return kind;
  }
  throw DataError(cat(file.path.string(), ": no task of RULER, whose names begin with niah, vt, cwe, fwe or qa"));
}

/// The file's own answer_prefix, or what is one at the end of the input; in a chat it begins the assistant's turn.
void part_start(Question& question, const Json& line, const std::string& where) {
  if (line.contains("answer_prefix") && line["answer_prefix"] != "") {
    question.start = text_of(line, "answer_prefix", where);
    return;
  }
  for (const char* start : kRulerStarts) {
    const std::size_t at = question.text.rfind(start);
    if (at == std::string::npos || at + kStartWithin < question.text.size()) continue;
    question.start = question.text.substr(at);
    question.text.resize(at);
    return;
  }
}

class RulerEvaluation final : public QuestionTask {
 public:
  using Options = RulerOptions;
  explicit RulerEvaluation(Options options)
      : QuestionTask(TooLong::kIsLeftOut, options.max_tokens), options_(std::move(options)) {}

 protected:
  /// Lines {"input": …, "outputs": […], "index": …}; an input holds the whole prompt, the beginning of the answer
  /// included.
  std::vector<QuestionSet> load(const EvaluationConfig& config) const override {
    std::vector<QuestionSet> sets;
    for (const QuestionFile& file :
         question_files(config.items, options_.tasks, "evaluate." + config.label() + ".ruler")) {
      const RulerKind& kind = kind_of_ruler(file);
      QuestionSet set;
      set.name = file.task;
      set.new_tokens = kind.new_tokens;
      set.score = [any = kind.any](const Prediction& prediction) {
        return any ? contains_any(prediction.text, prediction.answers)
                   : contained_share(prediction.text, prediction.answers);
      };
      read_json_lines(file.path, [&](const Json& line, const std::string& where) {
        if (config.max_items > 0 && std::ssize(set.questions) >= config.max_items) return false;
        Question question;
        question.text = text_of(line, "input", where);
        part_start(question, line, where);
        question.prediction.id = line.contains("index") ? line["index"].dump() : "";
        question.prediction.answers = answers_of(line, "outputs", where);
        set.questions.push_back(std::move(question));
        return true;
      });
      if (set.questions.empty()) throw DataError(cat(file.path.string(), ": holds no item"));
      sets.push_back(std::move(set));
    }
    return sets;
  }

 private:
  Options options_;
};

const TaskRegistration<RulerEvaluation> kRulerTask(
    "ruler", "RULER's needles in long texts: the share of them that answers name");

}  // namespace
}  // namespace mla
