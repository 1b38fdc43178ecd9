// What is written down of a training while it runs: its metrics, scores of the model on the way, kept checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/store/event_file.h"
#include "core/store/record.h"
#include "core/train/trainer.h"
#include "experiments/cell/metrics_file.h"
#include "experiments/config/experiment_config.h"

namespace mla {

/// Where a journal writes, and what it asks for.
struct JournalPlan {
  std::filesystem::path metrics;  ///< the file of all stages' lines
  std::filesystem::path events;   ///< TensorBoard's folder; empty: none
  std::string stage;
  std::string title;           ///< of what is trained, for the log
  TrainingSeries before = {};  ///< of the stages before, whose steps and tokens count on
  /// Scores of the model as it is, task -> metric -> value; the first task's first metric is what `best` goes by, a
  /// smaller one being better. Throws Interrupted after a signal. Empty where `evaluate_every` is 0.
  std::function<Json()> evaluate = {};
  std::int64_t evaluate_every = 0;
  /// Keeps the model as it is under a name; `about` says of which step it is. May be empty.
  std::function<void(const std::string& name, const Json& about)> keep = {};
  KeepCheckpoints checkpoints = {};
};

class TrainingJournal {
 public:
  explicit TrainingJournal(JournalPlan plan) : plan_(std::move(plan)) {}

  /// Before the first step that is made, after those that an earlier run has made: the file holds their lines and no
  /// others from then on. Lines that were lost are made anew from `earlier`, without times.
  void begin(const TrainingReport& earlier, std::int64_t steps);
  /// After a step's update. False where a signal came before all of it was done: the step is to be made again.
  bool add(const TrainingStep& step, const TrainingReport& report);
  /// Before a state is kept, from which a run goes on without these lines.
  void sync();
  /// After the last step; a diverged run's last one has had no update.
  void finish(const TrainingReport& report);

 private:
  std::vector<StepMetrics> lines_made(const TrainingReport& report) const;
  void write(const StepMetrics& line);
  void show(const StepMetrics& line);
  void remember_best(const StepMetrics& line);
  void keep_checkpoints(const StepMetrics& line, std::int64_t made);

  JournalPlan plan_;
  std::optional<MetricsFile> file_;
  std::optional<EventFile> events_;
  std::optional<double> best_;
  std::int64_t written_ = 0;  ///< lines in the file
  double seconds_ = 0;        ///< of the steps so far, as the report counts them
};

}  // namespace mla
