#include <cmath>
#include <map>

#include "core/base/log.h"
#include "core/base/suggest.h"
#include "core/metrics/prediction_scores.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

/// Scores of one task, in the order of the file.
struct TaskScores {
  std::vector<std::string> ids;
  std::vector<double> scores;

  double mean() const {
    double sum = 0;
    for (const double score : scores) sum += score;
    return sum / static_cast<double>(scores.size());
  }

  /// Of the mean, by the spread of the scores; 0 for a single one.
  double standard_error() const {
    const double count = static_cast<double>(scores.size()), middle = mean();
    double squares = 0;
    for (const double score : scores) squares += (score - middle) * (score - middle);
    return count > 1 ? std::sqrt(squares / (count - 1) / count) : 0;
  }
};

Json summary_of(const std::string& task, const TaskScores& scores) {
  return {{"task", task},
          {"n", scores.scores.size()},
          {"mean", scores.mean()},
          {"percent", 100 * scores.mean()},
          {"standard_error", scores.standard_error()},
          {"ids", scores.ids},
          {"scores", scores.scores}};
}

class ScorePredictions final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("file", file_, "FILE",
                     "lines of {\"pred\": \"…\", \"answers\": […], \"all_classes\": […]}, .jsonl or .jsonl.gz; "
                     "\"dataset\" names a line's task, \"_id\" the line");
    options.add("task", task_, "TASK",
                "a task of LongBench; lines with another \"dataset\" are left out; default: each line's own");
  }

  ExitCode run(Console& console) override {
    if (task_) longbench_task(*task_, "--task");
    const std::vector<Prediction> predictions = read_predictions(file_);
    std::vector<double> in_order;
    std::map<std::string, TaskScores> by_task;
    for (std::size_t i = 0; i < predictions.size(); ++i) {
      const Prediction& prediction = predictions[i];
      if (task_ && !prediction.dataset.empty() && prediction.dataset != *task_) continue;
      const LongBenchTask& task = task_of(prediction, i);
      TaskScores& scores = by_task[task.name];
      scores.ids.push_back(prediction.id);
      scores.scores.push_back(score(task, prediction, i));
      in_order.push_back(scores.scores.back());
    }
    tell_left_out(predictions.size(), in_order.size());
    report(by_task, in_order, console);
    return ExitCode::kDone;
  }

 private:
  std::string place(std::size_t index) const { return cat(file_.string(), ": prediction ", index + 1); }

  const LongBenchTask& task_of(const Prediction& prediction, std::size_t index) const {
    if (task_) return longbench_task(*task_, "--task");
    if (prediction.dataset.empty()) throw DataError(cat(place(index), ": names no dataset; give --task"));
    try {
      return longbench_task(prediction.dataset, "dataset");
    } catch (const ConfigError& error) {
      throw DataError(cat(place(index), ": ", error.what()));
    }
  }

  double score(const LongBenchTask& task, const Prediction& prediction, std::size_t index) const {
    try {
      return score_prediction(task, prediction);
    } catch (const DataError& error) {
      throw DataError(cat(place(index), ": ", error.what()));
    }
  }

  void tell_left_out(std::size_t all, std::size_t scored) const {
    if (scored == 0)
      throw DataError(cat(file_.string(), ": none of its ", all, " predictions is of the task ", *task_));
    if (scored < all)
      log_warning(cat(file_.string(), ": ", all - scored, " of ", all, " predictions are of other tasks than ", *task_,
                      ", and left out"));
  }

  void report(const std::map<std::string, TaskScores>& by_task, const std::vector<double>& in_order,
              Console& console) const {
    Table table({"task", "predictions", "score, %", "standard error"});
    Json tasks = Json::array();
    double sum = 0;
    for (const LongBenchTask& task : longbench_tasks()) {
      const auto found = by_task.find(task.name);
      if (found == by_task.end()) continue;
      const TaskScores& scores = found->second;
      table.add({task.name, cat(scores.scores.size()), rounded(100 * scores.mean(), 4),
                 rounded(100 * scores.standard_error(), 2)});
      tasks.push_back(summary_of(task.name, scores));
      sum += scores.mean();
    }
    table.print(console.text());
    if (tasks.size() == 1) return console.report(tasks[0]);
    const double mean = sum / static_cast<double>(tasks.size());
    console.text() << "mean of the tasks: " << rounded(100 * mean, 4) << " %\n";
    console.report({{"mean", mean}, {"percent", 100 * mean}, {"scores", in_order}, {"tasks", tasks}});
  }

  std::filesystem::path file_;
  std::optional<std::string> task_;
};

const CommandRegistration<ScorePredictions> kScorePredictions(
    "score-predictions", "scores of texts that a model has generated before, by LongBench's metrics",
    {"mlaforge score-predictions --task narrativeqa predictions.jsonl --json",
     "mlaforge score-predictions ../shared/data/conformance/mha2mla_longbench_scores/vectors.jsonl"});

}  // namespace
}  // namespace mla
