#include "experiments/tasks/question_task.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/base/statistics.h"
#include "core/evaluate/end_tokens.h"
#include "experiments/data/score_record.h"
#include "experiments/tasks/answer_journal.h"
#include "experiments/tasks/benchmark_items.h"

namespace mla {
namespace {

Json line_of(const Prediction& prediction, const std::string& set, double score) {
  return {{"_id", prediction.id},
          {"dataset", set},
          {"pred", prediction.text},
          {"answers", prediction.answers},
          {"all_classes", prediction.classes.empty() ? Json() : Json(prediction.classes)},
          {"score", score}};
}

ScoreRecord record_of(const std::string& stage, const std::string& task, std::vector<double> scores) {
  const Estimate mean = grouped_mean(scores, {});
  ScoreRecord record = new_score(stage, task, "score", mean.value, std::ssize(scores), "0..1", Better::kHigher);
  record.standard_error = mean.standard_error;
  record.per_sample = std::move(scores);
  return record;
}

/// A question's tokens as a turn of a chat. What is too long loses its middle before it becomes one, as LongBench does.
std::vector<std::int32_t> in_chat(const Chat& chat, const Tokenizer& tokenizer, const Question& question,
                                  std::int64_t most) {
  std::vector<std::int32_t> whole = chat.ask(question.text, question.start);
  const std::int64_t left = most - std::ssize(chat.ask("", question.start));
  if (std::ssize(whole) <= most || left < 2) return whole;
  const std::vector<std::int32_t> ids = tokenizer.encode(question.text);
  const auto half = static_cast<std::size_t>(left / 2);
  const std::span<const std::int32_t> all = ids;
  return chat.ask(tokenizer.decode(all.first(half)) + tokenizer.decode(all.last(half)), question.start);
}

}  // namespace

/// A set as a model is asked it.
struct QuestionTask::Asked {
  QuestionSet set;
  std::vector<std::vector<std::int32_t>> prompts;  ///< empty: too long
  std::vector<std::int64_t> ends;                  ///< tokens that end an answer
  std::int64_t too_long = 0;
};

void QuestionTask::validate(const EvaluationConfig& config, const std::string& path) const {
  expect_items(config, path);
}

std::vector<std::string> QuestionTask::files(const EvaluationConfig& config) const { return files_of_items(config); }

std::int64_t QuestionTask::room(const TaskCall& call) const {
  return max_tokens_ > 0 ? max_tokens_ : call.decoder.spec().max_positions;
}

QuestionTask::Asked QuestionTask::ask(const TaskCall& call, QuestionSet set) const {
  const Tokenizer& tokenizer = call.surroundings.tokenizer();
  const std::int64_t most = room(call) - set.new_tokens;
  if (most < 2) {
    throw ConfigError(cat("evaluate.", call.config.label(), ".", call.config.task, ".max_tokens = ", room(call),
                          ": leaves no room for a prompt beside the ", set.new_tokens, " tokens of an answer to ",
                          set.name));
  }
  const std::optional<Chat> chat = set.takes_chat ? chat_of(call.config, call.surroundings) : std::optional<Chat>();
  Asked asked;
  asked.ends = end_tokens(call.decoder.spec(), tokenizer);
  if (chat && chat->end()) asked.ends.push_back(*chat->end());
  const bool cuts = too_long_ == TooLong::kLosesMiddle;
  for (const Question& question : set.questions) {
    std::vector<std::int32_t> prompt = !chat  ? tokenizer.encode(question.text + question.start, {.add_bos = true})
                                       : cuts ? in_chat(*chat, tokenizer, question, most)
                                              : chat->ask(question.text, question.start);
    if (cuts) prompt = without_middle(std::move(prompt), most);
    const std::int64_t surplus = std::ssize(prompt) - most;
    if (surplus > 0 && too_long_ == TooLong::kLosesBeginning) prompt.erase(prompt.begin(), prompt.begin() + surplus);
    if (surplus > 0 && too_long_ == TooLong::kLosesEnd) prompt.resize(static_cast<std::size_t>(most));
    if (std::ssize(prompt) > most) {
      prompt.clear();
      ++asked.too_long;
    }
    asked.prompts.push_back(std::move(prompt));
  }
  asked.set = std::move(set);
  return asked;
}

std::vector<QuestionTask::Asked> QuestionTask::ask_all(const TaskCall& call) const {
  std::vector<Asked> all;
  std::int64_t questions = 0, too_long = 0;
  for (QuestionSet& set : load(call.config)) {
    all.push_back(ask(call, std::move(set)));
    questions += std::ssize(all.back().prompts);
    too_long += all.back().too_long;
  }
  if (too_long == questions) {
    throw DataError(cat(call.config.items, ": every prompt, with its answer, is longer than ", room(call),
                        " tokens, the most that ", call.config.label(), " may ask"));
  }
  return all;
}

TaskCost QuestionTask::cost(const TaskCall& call) const {
  TaskCost cost;
  for (const Asked& asked : ask_all(call)) {
    for (const auto& prompt : asked.prompts) {
      if (!prompt.empty()) cost.tokens += static_cast<double>(std::ssize(prompt) + asked.set.new_tokens);
    }
  }
  return cost;
}

std::vector<ScoreRecord> QuestionTask::scores(const TaskCall& call) const { return answered_scores(call, {}, ""); }

CachedTaskScores QuestionTask::scores_through_cache(const TaskCall& call, const CachedDecodingConfig&,
                                                    const CacheFormat& format) const {
  return {{}, answered_scores(call, format, ", cached")};
}

ScoreRecord QuestionTask::mean_of(const std::string& stage, const std::string& label, const std::string& metric,
                                  const std::vector<ScoreRecord>& scores) {
  ScoreRecord record;
  record.stage = stage;
  record.task = label;
  record.metric = metric;
  record.unit = "0..1";
  double squares = 0;
  for (const ScoreRecord& score : scores) {
    record.value += score.value / static_cast<double>(scores.size());
    squares += *score.standard_error * *score.standard_error;
    record.n += score.n;
  }
  record.standard_error = std::sqrt(squares) / static_cast<double>(scores.size());
  return record;
}

std::vector<ScoreRecord> QuestionTask::answered_scores(const TaskCall& call, const CacheFormat& cache,
                                                       const std::string& tail) const {
  const std::string& label = call.config.label();
  if (room(call) > call.decoder.spec().max_positions) {
    log_warning(cat(label, ": ", call.config.task, ".max_tokens = ", room(call), " is more than the model's ",
                    call.decoder.spec().max_positions, " positions"));
  }
  std::vector<ScoreRecord> scores, counts;
  for (Asked& asked : ask_all(call)) {
    const std::string place = label + "." + asked.set.name + tail;
    const auto questions = std::ssize(asked.prompts);
    if (asked.too_long > 0) {
      log_warning(cat(place, ": ", asked.too_long, " of ", questions,
                      " prompts are left out: with an answer longer than ", room(call), " tokens"));
      counts.push_back(new_score(call.stage, place, "too_long", static_cast<double>(asked.too_long), questions,
                                 "questions", Better::kLower));
    }
    answer_all(call, cache, place, asked);
    std::vector<double> own;
    std::string lines;
    for (std::size_t i = 0; i < asked.prompts.size(); ++i) {
      if (asked.prompts[i].empty()) continue;
      own.push_back(asked.set.score(asked.set.questions[i].prediction));
      lines += line_of(asked.set.questions[i].prediction, asked.set.name, own.back()).dump() + "\n";
    }
    if (!call.predictions.empty()) write_file_atomically(call.predictions / (asked.set.name + ".jsonl"), lines);
    if (!own.empty()) scores.push_back(record_of(call.stage, place, std::move(own)));
  }
  std::vector<ScoreRecord> means = {mean_of(call.stage, label + tail, "score", scores)};
  add_means(call.stage, label + tail, scores, means);
  for (const auto& list : {means, counts}) scores.insert(scores.end(), list.begin(), list.end());
  return scores;
}

/// Fills in the answers to one set's questions, those apart that an earlier run has given.
void QuestionTask::answer_all(const TaskCall& call, const CacheFormat& cache, const std::string& label,
                              Asked& asked) const {
  std::vector<std::string> answers(asked.prompts.size());
  std::optional<AnswerJournal> journal;
  std::vector<bool> answered(answers.size());
  if (call.keeper.keeps()) {
    Json key = {call.keeper.key(), asked.set.new_tokens, asked.ends, asked.prompts};
    if (!asked.set.stop.empty()) key.push_back(asked.set.stop);
    answered = journal.emplace(call.keeper.file(label), hash_json(key)).restore(answers);
  }
  std::vector<std::vector<std::int32_t>> open = asked.prompts;
  for (std::size_t i = 0; i < open.size(); ++i) {
    if (answered[i]) open[i].clear();
  }
  AnswerOptions options{asked.set.new_tokens, call.config.options.batch_tokens, asked.ends, asked.set.stop, cache};
  Progress bar(cat("answer ", call.stage, " ", asked.set.name), std::ssize(answers) - asked.too_long, "questions");
  bar.advance(std::count(answered.begin(), answered.end(), true));
  answer(call.decoder, call.surroundings.tokenizer(), open, options,
         [&](const std::vector<std::size_t>& batch, const std::vector<std::string>& texts) {
           for (std::size_t i = 0; i < batch.size(); ++i) answers[batch[i]] = texts[i];
           if (journal) journal->keep(batch, texts);
           bar.advance(std::ssize(batch));
           check_interrupt();
         });
  for (std::size_t i = 0; i < answers.size(); ++i) asked.set.questions[i].prediction.text = std::move(answers[i]);
}

}  // namespace mla
