#include <algorithm>
#include <memory>

#include "core/base/error.h"
#include "core/metrics/exact_match.h"
#include "core/text/benchmark_prompt.h"
#include "core/text/json_lines.h"
#include "experiments/tasks/question_files.h"

namespace mla {
namespace {

/// Where a prompt that is too long loses tokens.
enum class LostPart { kBeginning, kMiddle, kEnd };
std::vector<std::pair<std::string, LostPart>> enum_names(LostPart) {
  return {{"left", LostPart::kBeginning}, {"middle", LostPart::kMiddle}, {"right", LostPart::kEnd}};
}

struct GenerationOptions {
  std::string answers = "answer";
  std::int64_t new_tokens = 256, max_tokens = 0;
  LostPart truncation = LostPart::kBeginning;
  AnswerRule rule;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("answers", self.answers,
          "the field of a row that holds the reference or a list of them; \"answer.aliases\" names one in an object");
    visit("new_tokens", self.new_tokens, "of an answer, at most");
    visit("max_tokens", self.max_tokens, "of prompt and answer together; 0: the model's positions");
    visit("truncation", self.truncation, "where a prompt that is too long loses tokens: left | middle | right");
    AnswerRule::fields(self.rule, visit);
  }

  void validate(const std::string& path) const {
    if (answers.empty()) throw ConfigError(cat(path, ".answers: name a field"));
    if (new_tokens < 1) throw ConfigError(cat(path, ".new_tokens = ", new_tokens, ": must be at least 1"));
    if (max_tokens < 0) throw ConfigError(cat(path, ".max_tokens = ", max_tokens, ": must not be negative"));
    ExactMatch(rule, path);
  }
};

/// Adds the texts and numbers of an object, those of objects in it as "answer.value".
void add_fields(const Json& object, const std::string& prefix, std::map<std::string, std::string>& fields) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_string()) fields[prefix + key] = value.get<std::string>();
    if (value.is_number()) fields[prefix + key] = value.dump();
    if (value.is_object()) add_fields(value, prefix + key + ".", fields);
  }
}

std::vector<std::string> references_of(const Json& row, const std::string& path, const std::string& where) {
  const Json* value = &row;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    const std::string key = path.substr(begin, end - begin);
    if (!value->is_object() || !value->contains(key))
      throw DataError(
          cat(where, ": field ", path, " is missing; generation.answers names the field of the references"));
    value = &value->at(key);
    begin = end + 1;
  }
  std::vector<std::string> references;
  for (const Json& one : value->is_array() ? *value : Json::array({*value})) {
    if (!one.is_string() && !one.is_number())
      throw DataError(cat(where, ": ", path, ": expected a text or a list of texts, found ", brief(*value)));
    references.push_back(one.is_string() ? one.get<std::string>() : one.dump());
  }
  if (references.empty()) throw DataError(cat(where, ": ", path, ": holds no reference"));
  return references;
}

/// The rows of one file as questions whose choices are the references, the first one the right one of solved examples.
std::vector<BenchmarkQuestion> read_rows(const std::filesystem::path& file, const std::string& answers) {
  std::vector<BenchmarkQuestion> rows;
  read_json_lines(file, [&](const Json& row, const std::string& where) {
    BenchmarkQuestion& question = rows.emplace_back();
    question.choices = references_of(row, answers, where);
    add_fields(row, "", question.fields);
    for (const char* key : {"prompt", "query", "question"}) {
      if (!row.contains(key) || !row.at(key).is_string()) continue;
      question.query = question.question = row.at(key).get<std::string>();
    }
    return true;
  });
  if (rows.empty()) throw DataError(cat(file.string(), ": holds no item"));
  return rows;
}

class GenerationEvaluation final : public QuestionTask {
 public:
  using Options = GenerationOptions;
  explicit GenerationEvaluation(Options options)
      : QuestionTask(too_long(options.truncation), options.max_tokens),
        options_(std::move(options)),
        match_(std::make_shared<const ExactMatch>(options_.rule, "generation")) {}

  std::vector<std::string> reads() const override {
    std::vector<std::string> all = QuestionTask::reads();
    all.push_back("prompt");
    return all;
  }

 protected:
  std::vector<QuestionSet> load(const EvaluationConfig& config) const override {
    const std::string path = "evaluate." + config.label();
    std::vector<BenchmarkQuestion> examples;
    if (config.prompt.few_shot > 0 && !config.prompt.few_shot_items.empty()) {
      for (const QuestionFile& file : question_files(config.prompt.few_shot_items, {}, path + ".prompt")) {
        const auto rows = read_rows(file.path, options_.answers);
        examples.insert(examples.end(), rows.begin(), rows.end());
      }
    }
    std::vector<QuestionSet> sets;
    for (const QuestionFile& file : question_files(config.items, {}, path))
      sets.push_back(questions_of(file, examples, config, path));
    return sets;
  }

 private:
  static TooLong too_long(LostPart part) {
    return part == LostPart::kBeginning ? TooLong::kLosesBeginning
           : part == LostPart::kEnd     ? TooLong::kLosesEnd
                                        : TooLong::kLosesMiddle;
  }

  QuestionSet questions_of(const QuestionFile& file, const std::vector<BenchmarkQuestion>& examples,
                           const EvaluationConfig& config, const std::string& path) const {
    std::vector<BenchmarkQuestion> rows = read_rows(file.path, options_.answers);
    const std::vector<BenchmarkQuestion>& solved = examples.empty() ? rows : examples;
    std::vector<BenchmarkQuestion> asked = rows;
    if (config.max_items > 0 && config.max_items < std::ssize(asked))
      asked.resize(static_cast<std::size_t>(config.max_items));
    const auto items = make_items(asked, solved, config.prompt, path + ".prompt");
    QuestionSet set;
    set.name = file.task;
    set.new_tokens = options_.new_tokens;
    set.stop = options_.rule.stop;
    set.score = [match = match_](const Prediction& prediction) {
      return match->score(prediction.text, prediction.answers);
    };
    for (std::size_t i = 0; i < items.size(); ++i) {
      Question& question = set.questions.emplace_back();
      question.text = items[i].context;
      question.prediction.id = std::to_string(i);
      question.prediction.answers = asked[i].choices;
    }
    return set;
  }

  Options options_;
  std::shared_ptr<const ExactMatch> match_;
};

const TaskRegistration<GenerationEvaluation> kGenerationTask(
    "generation", "answers in words to questions of a file, right where they match exactly (GSM8K, TriviaQA)");

}  // namespace
}  // namespace mla
