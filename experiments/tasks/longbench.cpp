#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/base/statistics.h"
#include "core/evaluate/long_context.h"
#include "core/text/json_lines.h"
#include "experiments/data/score_record.h"
#include "experiments/tasks/benchmark_items.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

/// What of LongBench is asked, and how long its prompts may be.
struct LongBenchOptions {
  std::vector<std::string> tasks;
  std::int64_t max_tokens = 2048;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("tasks", self.tasks, "names of tasks; empty: all that `items` holds");
    visit("max_tokens", self.max_tokens,
          "of prompt and answer together; what is longer loses its middle. MHA2MLA: 2048 for SmolLM, 4096 for Llama 2");
  }

  void validate(const std::string& path) const {
    for (std::size_t i = 0; i < tasks.size(); ++i) longbench_task(tasks[i], cat(path, ".tasks[", i, "]"));
    if (max_tokens < 2) throw ConfigError(cat(path, ".max_tokens = ", max_tokens, ": expected at least 2"));
  }
};

/// One task's items, and where they come from.
struct TaskItems {
  const LongBenchTask* task;
  std::vector<LongContextItem> items;
};

std::filesystem::path task_file(const std::filesystem::path& folder, const std::string& task) {
  const std::filesystem::path plain = folder / (task + ".jsonl"), packed = folder / (task + ".jsonl.gz");
  return std::filesystem::exists(packed) && !std::filesystem::exists(plain) ? packed : plain;
}

/// A single file is of the one task that the config names, or else of the one that its name begins with.
std::vector<TaskItems> load(const EvaluationConfig& config, const std::vector<std::string>& wanted) {
  std::vector<TaskItems> all;
  const bool folder = std::filesystem::is_directory(config.items);
  const std::string file_name = std::filesystem::path(config.items).filename().string();
  for (const LongBenchTask& task : longbench_tasks()) {
    const bool named = std::find(wanted.begin(), wanted.end(), task.name) != wanted.end();
    if (!wanted.empty() && !named) continue;
    const std::filesystem::path file =
        folder ? task_file(config.items, task.name) : std::filesystem::path(config.items);
    if (folder ? !named && !std::filesystem::exists(file)
               : !named && file_name.substr(0, file_name.find('.')) != task.name)
      continue;
    all.push_back({&task, read_long_context_items(file, config.max_items)});
  }
  if (all.empty()) throw DataError(cat(config.items, ": holds no file of a LongBench task, such as narrativeqa.jsonl"));
  return all;
}

Json to_json(const Prediction& prediction, const LongBenchTask& task) {
  return {{"_id", prediction.id},
          {"dataset", task.name},
          {"pred", prediction.text},
          {"answers", prediction.answers},
          {"all_classes", prediction.classes.empty() ? Json() : Json(prediction.classes)},
          {"score", score_prediction(task, prediction)}};
}

/// Answers kept one a line under the key of everything they depend on.
class AnswerJournal {
 public:
  AnswerJournal(std::filesystem::path file, std::string key) : file_(std::move(file)), key_(std::move(key)) {}

  /// Fills in what an earlier run has answered; tells which.
  std::vector<bool> restore(std::vector<LongContextItem>& items) {
    std::vector<bool> answered(items.size());
    kept_ = Json(key_).dump() + "\n";
    if (std::filesystem::exists(file_)) {
      const std::string text = read_file(file_);
      const std::size_t first = text.find('\n');
      if (text.substr(0, first) + "\n" == kept_) take_over(text.substr(first + 1), items, answered);
    }
    return answered;
  }

  void keep(const std::vector<std::size_t>& indices, const std::vector<LongContextItem>& items) {
    for (const std::size_t i : indices) kept_ += Json::array({i, items[i].prediction.text}).dump() + "\n";
    write_file_atomically(file_, kept_);
  }

 private:
  void take_over(const std::string& lines, std::vector<LongContextItem>& items, std::vector<bool>& answered) {
    for (std::size_t begin = 0, end; (end = lines.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const Json line = parse_json(lines.substr(begin, end - begin), file_.string());
      if (!line.is_array() || line.size() != 2 || !line[0].is_number_unsigned() || !line[1].is_string())
        throw DataError(cat(file_.string(), ": expected [number, answer], found ", brief(line), "; remove the file"));
      const auto index = line[0].get<std::size_t>();
      if (index >= items.size()) continue;
      items[index].prediction.text = line[1].get<std::string>();
      answered[index] = true;
      kept_ += lines.substr(begin, end + 1 - begin);
    }
  }

  std::filesystem::path file_;
  std::string key_, kept_;
};

/// Everything but the model that answers depend on.
std::string key_of(const EvaluationKeeper& keeper, std::int64_t max_tokens, const ModelSpec& spec,
                   const std::vector<LongContextItem>& items) {
  Json all = Json::array({keeper.key(), max_tokens});
  if (!spec.ends.empty()) all.push_back(spec.ends);
  for (const LongContextItem& item : items) all.push_back(hash_bytes(item.context + '\n' + item.input));
  return hash_json(all);
}

ScoreRecord record_of(const std::string& stage, const std::string& task, const std::vector<double>& scores) {
  const Estimate mean = grouped_mean(scores, {});
  ScoreRecord record = new_score(stage, task, "score", mean.value, std::ssize(scores), "0..1", Better::kHigher);
  record.standard_error = mean.standard_error;
  record.per_sample = scores;
  return record;
}

ScoreRecord mean_of(const std::string& stage, const std::string& label, const std::string& metric,
                    const std::vector<ScoreRecord>& tasks) {
  ScoreRecord record;
  record.stage = stage;
  record.task = label;
  record.metric = metric;
  record.unit = "0..1";
  double squares = 0;
  for (const ScoreRecord& task : tasks) {
    record.value += task.value / static_cast<double>(tasks.size());
    squares += *task.standard_error * *task.standard_error;
    record.n += task.n;
  }
  record.standard_error = std::sqrt(squares) / static_cast<double>(tasks.size());
  return record;
}

/// The means over tasks that tables tell.
void add_means(const std::string& stage, const std::string& label, const std::vector<TaskItems>& all,
               std::vector<ScoreRecord>& scores) {
  std::vector<ScoreRecord> english;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].task->english) english.push_back(scores[i]);
  }
  const auto count =
      std::count_if(longbench_tasks().begin(), longbench_tasks().end(), [](const auto& task) { return task.english; });
  const std::vector<ScoreRecord> tasks = scores;
  scores.push_back(mean_of(stage, label, "score", tasks));
  if (std::ssize(english) == count) scores.push_back(mean_of(stage, label, "score_english", english));
}

class LongBenchEvaluation final : public EvaluationTask {
 public:
  using Options = LongBenchOptions;
  explicit LongBenchEvaluation(Options options) : options_(std::move(options)) {}

  std::vector<std::string> reads() const override { return {"items", "max_items", "batch_tokens"}; }
  Asks asks() const override { return Asks::kGenerations; }
  void validate(const EvaluationConfig& config, const std::string& path) const override { expect_items(config, path); }
  std::vector<std::string> files(const EvaluationConfig& config) const override { return files_of_items(config); }

  TaskCost cost(const TaskCall& call) const override {
    TaskCost cost;
    for (const TaskItems& one : load(call.config, options_.tasks)) {
      for (const LongContextItem& item : one.items) {
        const auto prompt = long_context_prompt(*one.task, item, call.surroundings.tokenizer(), options_.max_tokens,
                                                place(call.config));
        cost.tokens += static_cast<double>(std::ssize(prompt) + one.task->new_tokens);
      }
    }
    return cost;
  }

  /// For each of its tasks "<label>.<task>" the metric "score", and under its own label the metric "score", the mean of
  /// the tasks, and "score_english", that of the 16 English and code tasks where all are there.
  std::vector<ScoreRecord> scores(const TaskCall& call) const override { return answered_scores(call, {}, ""); }

  bool decodes_through_cache() const override { return true; }
  CachedTaskScores scores_through_cache(const TaskCall& call, const CachedDecodingConfig&,
                                        const CacheFormat& format) const override {
    return {{}, answered_scores(call, format, ", cached")};
  }

  bool is_of_items() const override { return true; }

 private:
  static std::string place(const EvaluationConfig& config) { return "evaluate." + config.label() + ".longbench"; }

  /// `tail`: after the names of the scores' tasks.
  std::vector<ScoreRecord> answered_scores(const TaskCall& call, const CacheFormat& cache,
                                           const std::string& tail) const {
    const EvaluationConfig& config = call.config;
    std::vector<TaskItems> all = load(config, options_.tasks);
    if (options_.max_tokens > call.decoder.spec().max_positions) {
      log_warning(cat(config.label(), ": longbench.max_tokens = ", options_.max_tokens, " is more than the model's ",
                      call.decoder.spec().max_positions, " positions"));
    }
    std::vector<ScoreRecord> scores;
    for (TaskItems& one : all) {
      const std::string label = config.label() + "." + one.task->name + tail;
      answer_all(call, cache, label, one);
      std::vector<double> own;
      std::string lines;
      for (const LongContextItem& item : one.items) {
        own.push_back(score_prediction(*one.task, item.prediction));
        lines += to_json(item.prediction, *one.task).dump() + "\n";
      }
      if (!call.predictions.empty()) write_file_atomically(call.predictions / (one.task->name + ".jsonl"), lines);
      scores.push_back(record_of(call.stage, label, own));
    }
    add_means(call.stage, config.label() + tail, all, scores);
    return scores;
  }

  /// Fills in the answers to one task's items, those apart that an earlier run has given.
  void answer_all(const TaskCall& call, const CacheFormat& cache, const std::string& label, TaskItems& one) const {
    LongContextOptions options;
    options.max_tokens = options_.max_tokens;
    options.batch_tokens = call.config.options.batch_tokens;
    options.path = place(call.config);
    options.cache = cache;
    std::optional<AnswerJournal> journal;
    std::vector<bool> answered(one.items.size());
    if (call.keeper.keeps()) {
      const std::string key = key_of(call.keeper, options_.max_tokens, call.decoder.spec(), one.items);
      answered = journal.emplace(call.keeper.file(label), key).restore(one.items);
    }
    Progress bar(cat("answer ", call.stage, " ", one.task->name), std::ssize(one.items), "questions");
    bar.advance(std::count(answered.begin(), answered.end(), true));
    answer(call.decoder, call.surroundings.tokenizer(), *one.task, one.items, answered, options,
           [&](const std::vector<std::size_t>& done) {
             if (journal) journal->keep(done, one.items);
             bar.advance(std::ssize(done));
             check_interrupt();
           });
  }

  Options options_;
};

const TaskRegistration<LongBenchEvaluation> kLongBenchTask("longbench",
                                                           "LongBench's questions about long texts, answered in words");

}  // namespace
}  // namespace mla
