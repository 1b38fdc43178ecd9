// The one training loop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/model/decoder.h"
#include "core/train/adamw.h"
#include "core/train/batches.h"
#include "core/train/collective.h"
#include "core/train/lora.h"
#include "core/train/loss.h"
#include "core/train/schedule.h"
#include "core/train/sharding.h"

namespace mla {

struct TrainOptions {
  std::int64_t steps = 300;
  std::int64_t batch_rows = 8;
  std::int64_t accumulation = 1;
  std::int64_t sequence_length = 256;
  double learning_rate = 1e-4;
  ScheduleOptions schedule;
  AdamWOptions optimizer;
  double gradient_clip = 1;
  std::uint64_t seed = 42;
  std::string trainable = "all";
  std::optional<LoraOptions> lora;
  double divergence_factor = 3;
  LossOptions loss;
  bool checkpoint_activations = false;
  Shard shard = Shard::kNone;
  bool overlap = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("steps", self.steps, "updates of the parameters");
    visit("batch_rows", self.batch_rows, "sequences of one forward and backward pass");
    visit("accumulation", self.accumulation, "passes per update; an update sees batch_rows * accumulation sequences");
    visit("sequence_length", self.sequence_length, "tokens of a packed sequence (for whoever makes the batch source)");
    visit("learning_rate", self.learning_rate, "peak of the schedule");
    visit("schedule", self.schedule, "learning rate over the steps");
    visit("optimizer", self.optimizer, "AdamW");
    visit("gradient_clip", self.gradient_clip, "largest 2-norm of the gradient; 0: no limit");
    visit("seed", self.seed, "of the order of packed sequences (for whoever makes the batch source)");
    visit("trainable", self.trainable, "all, attention, attention_and_norms, or a regular expression for names");
    visit("lora", self.lora, "train low-rank adapters instead (arXiv 2106.09685); absent: the parameters themselves");
    visit("divergence_factor", self.divergence_factor,
          "a loss above this multiple of the first one, or of 1, ends the run; 0: only one that is not finite does");
    visit("loss", self.loss, "what is minimised: a weighted sum");
    visit("checkpoint_activations", self.checkpoint_activations,
          "compute each layer again for its gradient: a third more work, a small part of the memory, the same numbers");
    visit("shard", self.shard,
          "what processes that train together divide among them: none | optimizer (its states) | gradients (and "
          "states) | "
          "weights (and both; each layer is computed again for its gradient)");
    visit(
        "overlap", self.overlap,
        "processes that train together exchange gradients, and weights that are divided, in a thread of its own while "
        "they go on computing; false: they wait, to the same numbers");
  }

  /// Throws ConfigError for sizes below 1, numbers that are negative or not finite, and a schedule that does not fit.
  void validate(const std::string& path) const;
};

enum class TrainingStatus { kComplete, kDiverged, kInterrupted };
std::vector<std::pair<std::string, TrainingStatus>> enum_names(TrainingStatus);

/// One step, counted from 0. The loss is that before the step's update.
struct TrainingStep {
  std::int64_t step = 0;
  std::int64_t tokens = 0;  ///< scored up to here, this step included
  double loss = 0;          ///< mean over the step's scored tokens, nats
  double learning_rate = 0;
  double gradient_norm = 0;  ///< before clipping
};

/// What a run did, step by step. All series have the same length.
struct TrainingReport {
  TrainingStatus status = TrainingStatus::kComplete;
  std::string message;  ///< why the run ended early; else empty
  std::vector<std::int64_t> step, tokens;
  std::vector<double> loss, learning_rate, gradient_norm;
  double seconds = 0;  ///< of the steps, the observer's time left out
  double tokens_per_second() const {
    return tokens.empty() || seconds <= 0 ? 0 : static_cast<double>(tokens.back()) / seconds;
  }
};

/// All that a run needs to go on from after a step, besides its options, its data and a model of the same shape.
struct TrainingState {
  TrainingReport report;      ///< of the steps so far
  std::int64_t position = 0;  ///< rows that the batch source has handed out
  NamedTensors tensors;       ///< "parameter.<name>" of what is trained, and the optimizer's
  /// The optimizer's instead, where processes hold parts of it: asking for the values of one puts it together, a call
  /// of all processes in the same order.
  std::vector<TensorSource> gathered{};
};

/// A run as its observer sees it.
class TrainingRun {
 public:
  virtual ~TrainingRun() = default;
  virtual const TrainingReport& report() const = 0;
  /// The state after the step that was just made. Its tensors share the run's memory: use them before the next step.
  virtual TrainingState state() const = 0;
};

/// Told of every step after its update: for progress, checkpoints and early ends.
class TrainingObserver {
 public:
  virtual ~TrainingObserver() = default;
  /// Returning false ends the run with status kInterrupted; updates made so far stay.
  virtual bool after_step(const TrainingStep& step, const TrainingRun& run) = 0;
};

/// What a run is given besides its model, data and options.
struct TrainingSurroundings {
  TrainingObserver* observer = nullptr;       ///< may be null
  const TrainingState* start = nullptr;       ///< the state of an earlier run after some step; null: from the start
  const Decoder* teacher = nullptr;           ///< for losses that compare with another model
  Collective* processes = &single_process();  ///< that train this model together
};

/// Minimises options.loss, averaged over scored tokens, with AdamW. The parameters named by `trainable` are updated in
/// place and require gradients only during the call; with `lora` those are adapters, which are made at the beginning
/// and, unless they stay beside, merged at the end. The gradient of a step is that of the mean over all tokens it
/// scores, however they are spread over accumulated passes. Divergence (a loss or gradient that is not finite, or a
/// loss above divergence_factor times the first, which counts as 1 nat at least) is a status: the step that showed it
/// is reported but its update is not made, so that the model is as the last update left it. Same seed, data and thread
/// count: same losses, bit for bit, also when a run is continued from the state of an earlier one. Throws ConfigError
/// for options that do not fit the model or a missing teacher, DataError for a state that does not fit.
///
/// Several processes train one model: `source` and `start` are the same in each, every step's rows are divided among
/// them, and gradients are summed, so that parameters and report are those of one process but for rounding. Rank 0's
/// parameters are those that training begins with. When the observer of any process ends the run, it ends in all after
/// that step. With `shard` each process holds its part of the optimizer's states alone, or of gradients too, or of the
/// layers' weights as well, which are whole again at the end; after an exception those are lost, and whatever uses such
/// a layer throws std::logic_error. A state is whole whatever was divided, so that any number of processes may go on
/// from it. With `overlap` a thread of this call exchanges what the processes tell each other within a step; the
/// observer, and who calls, may use the group as ever. Throws ConfigError for fewer rows a step than processes.
TrainingReport train(Decoder& decoder, BatchSource& source, const TrainOptions& options,
                     const TrainingSurroundings& surroundings = {});

}  // namespace mla
