#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/evaluate/long_context.h"
#include "experiments/tasks/question_task.h"

namespace mla {
namespace {

/// Tasks that LongBench asks without a chat template, whichever the model: their prompts hold solved examples, or code.
constexpr std::array kWithoutChat = {"trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"};

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

std::filesystem::path task_file(const std::filesystem::path& folder, const std::string& task) {
  const std::filesystem::path plain = folder / (task + ".jsonl"), packed = folder / (task + ".jsonl.gz");
  return std::filesystem::exists(packed) && !std::filesystem::exists(plain) ? packed : plain;
}

class LongBenchEvaluation final : public QuestionTask {
 public:
  using Options = LongBenchOptions;
  explicit LongBenchEvaluation(Options options)
      : QuestionTask(TooLong::kLosesMiddle, options.max_tokens), options_(std::move(options)) {}

 protected:
  /// A single file is of the one task that the config names, or else of the one that its name begins with.
  std::vector<QuestionSet> load(const EvaluationConfig& config) const override {
    std::vector<QuestionSet> all;
    const bool folder = std::filesystem::is_directory(config.items);
    const std::string file_name = std::filesystem::path(config.items).filename().string();
    for (const LongBenchTask& task : longbench_tasks()) {
      const bool named = std::find(options_.tasks.begin(), options_.tasks.end(), task.name) != options_.tasks.end();
      if (!options_.tasks.empty() && !named) continue;
      const std::filesystem::path file =
          folder ? task_file(config.items, task.name) : std::filesystem::path(config.items);
      if (folder ? !named && !std::filesystem::exists(file)
                 : !named && file_name.substr(0, file_name.find('.')) != task.name)
        continue;
      all.push_back(questions_of(task, read_long_context_items(file, config.max_items)));
    }
    if (all.empty())
      throw DataError(cat(config.items, ": holds no file of a LongBench task, such as narrativeqa.jsonl"));
    return all;
  }

  /// "score_english": of the 16 English and code tasks, where all are there.
  void add_means(const std::string& stage, const std::string& label, const std::vector<ScoreRecord>& scores,
                 std::vector<ScoreRecord>& means) const override {
    std::vector<ScoreRecord> english;
    std::size_t count = 0;
    for (const LongBenchTask& task : longbench_tasks()) {
      if (!task.english) continue;
      ++count;
      const std::string name = label.substr(0, label.find(',')) + "." + task.name;
      for (const ScoreRecord& score : scores) {
        if (score.task == name || score.task.starts_with(name + ",")) english.push_back(score);
      }
    }
    if (english.size() == count) means.push_back(mean_of(stage, label, "score_english", english));
  }

 private:
  /// A context of more than 8 `max_tokens` characters loses its middle before it becomes tokens.
  QuestionSet questions_of(const LongBenchTask& task, std::vector<LongContextItem> items) const {
    QuestionSet set;
    set.name = task.name;
    set.new_tokens = task.new_tokens;
    set.takes_chat = std::find(kWithoutChat.begin(), kWithoutChat.end(), task.name) == kWithoutChat.end();
    set.score = [&task](const Prediction& prediction) { return score_prediction(task, prediction); };
    for (LongContextItem& item : items) {
      const std::string context = without_middle(item.context, static_cast<std::size_t>(8 * options_.max_tokens));
      set.questions.push_back({longbench_prompt(task, context, item.input), "", std::move(item.prediction)});
    }
    return set;
  }

  Options options_;
};

const TaskRegistration<LongBenchEvaluation> kLongBenchTask("longbench",
                                                           "LongBench's questions about long texts, answered in words");

}  // namespace
}  // namespace mla
