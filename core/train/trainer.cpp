#include "core/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/train/exchange_queue.h"
#include "core/train/loss.h"
#include "core/train/lost_weights.h"
#include "core/train/summed_gradients.h"
#include "core/train/trainable.h"

namespace mla {
namespace {

constexpr const char* kPath = "train";
constexpr const char* kParameterPrefix = "parameter.";

std::int64_t rows_per_step(const TrainOptions& options) { return options.batch_rows * options.accumulation; }

/// This process's share of one step's rows, in passes of at most batch_rows; `source` moves on by the whole step.
std::vector<Batch> next_batches(BatchSource& source, const TrainOptions& options, const Collective& processes) {
  const std::int64_t start = source.position(), rows = rows_per_step(options);
  const std::int64_t begin = rows * processes.rank() / processes.size();
  const std::int64_t end = rows * (processes.rank() + 1) / processes.size();
  std::vector<Batch> batches;
  source.seek(start + begin);
  for (std::int64_t row = begin; row < end; row += options.batch_rows) {
    batches.push_back(source.next(std::min(options.batch_rows, end - row)));
  }
  source.seek(start + rows);
  return batches;
}

/// The most passes that a process makes of its share of a step's rows.
std::int64_t most_passes(const TrainOptions& options, const Collective& processes) {
  const std::int64_t rows = (rows_per_step(options) + processes.size() - 1) / processes.size();
  return (rows + options.batch_rows - 1) / options.batch_rows;
}

/// Backpropagates one step's batches; returns their mean loss and counts their tokens, those of all processes.
/// `shared` is null where this process is alone, and `keeper` where weights do not come and go.
double backpropagate(const Decoder& decoder, const Decoder* teacher, BatchSource& source, const TrainOptions& options,
                     Collective& processes, SharedGradients* shared, WeightKeeper* keeper, std::int64_t& tokens) {
  const std::vector<Batch> batches = next_batches(source, options, processes);
  double scored = 0;
  for (const Batch& batch : batches) scored += static_cast<double>(batch.scored);
  scored = processes.sum(scored);
  if (scored == 0) {
    throw DataError(
        "training: a step holds no token to predict: its rows are parts of prompts alone; take packing = rows, longer "
        "sequences, or more rows a step");
  }
  // Read at the end: nothing waits for a pass.
  at::Tensor sum = at::zeros({}, decoder.options().dtype(at::kDouble));
  const WeightKeeperScope scope(keeper);
  for (std::size_t pass = 0; pass < batches.size(); ++pass) {
    if (shared != nullptr) shared->begin_pass(/*last=*/pass + 1 == batches.size());
    sum.add_(accumulate_gradients(decoder, batches[pass], 1 / scored, options.loss, teacher));
    if (shared != nullptr) shared->end_pass();
  }
  for (auto pass = std::ssize(batches); shared != nullptr && pass < most_passes(options, processes); ++pass)
    shared->skip_pass();
  tokens += static_cast<std::int64_t>(scored);
  const double loss = sum.item<double>();
  return (shared != nullptr ? shared->sum_loss(loss) : loss) / scored;
}

/// First losses below this many nats count as this much: a model that is distilled from itself begins at 0.
constexpr double kSmallestFirstLoss = 1;

/// Why a step says that the run has diverged; empty when it has not.
std::string divergence(const TrainingStep& step, double first_loss, double factor) {
  if (!std::isfinite(step.loss)) return cat("step ", step.step, ": the loss is not finite");
  if (!std::isfinite(step.gradient_norm)) return cat("step ", step.step, ": the gradient is not finite");
  if (factor > 0 && step.loss > factor * std::max(first_loss, kSmallestFirstLoss)) {
    return cat("step ", step.step, ": the loss is ", step.loss, ", more than ", factor, " times the first (",
               first_loss, first_loss < kSmallestFirstLoss ? ", which counts as 1)" : ")");
  }
  return {};
}

void append(TrainingReport& report, const TrainingStep& step) {
  report.step.push_back(step.step);
  report.tokens.push_back(step.tokens);
  report.loss.push_back(step.loss);
  report.learning_rate.push_back(step.learning_rate);
  report.gradient_norm.push_back(step.gradient_norm);
}

/// Sets the decoder's switch for the length of a run.
class CheckpointedActivations {
 public:
  CheckpointedActivations(Decoder& decoder, bool on) : switch_(decoder.checkpoint_activations), before_(switch_) {
    switch_ = on;
  }
  ~CheckpointedActivations() { switch_ = before_; }
  CheckpointedActivations(const CheckpointedActivations&) = delete;
  CheckpointedActivations& operator=(const CheckpointedActivations&) = delete;

 private:
  bool& switch_;
  bool before_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Run final : public TrainingRun {
 public:
  Run(Decoder& decoder, BatchSource& source, const TrainOptions& options, const TrainingSurroundings& surroundings)
      : decoder_(decoder),
        teacher_(surroundings.teacher),
        source_(source),
        options_(options),
        processes_(*surroundings.processes),
        parameters_(decoder, options.lora ? kAdapterParameters : options.trainable, cat(kPath, ".trainable")),
        shard_(processes_.size() > 1 ? options.shard : Shard::kNone),
        queue_(options.overlap && processes_.serves_threads(), 2 * bucket_bytes(bytes_of(parameters_.named()))) {
    broadcast(processes_, parameters_.values());
    if (shard_ == Shard::kNone) {
      optimizer_.emplace(parameters_.named(), options.optimizer);
      if (processes_.size() > 1) summed_.emplace(decoder.spec(), parameters_, processes_, queue_);
    } else {
      sharded_.emplace(decoder.spec(), parameters_, options.optimizer, processes_, queue_, shard_);
    }
  }

  const TrainingReport& report() const override { return report_; }

  TrainingState state() const override {
    TrainingState state{report_, source_.position(), optimizer_ ? optimizer_->state() : NamedTensors()};
    if (sharded_) state.gathered = sharded_->state();
    std::set<std::string> divided;
    if (sharded_) {
      for (TensorSource& source : sharded_->divided_parameters(kParameterPrefix)) {
        divided.insert(source.name);
        state.gathered.push_back(std::move(source));
      }
    }
    for (const auto& [name, parameter] : parameters_.named()) {
      if (divided.contains(kParameterPrefix + name)) continue;
      state.tensors.emplace_back(kParameterPrefix + name, parameter.detach());
    }
    return state;
  }

  void restore(const TrainingState& state) {
    std::map<std::string, at::Tensor> tensors(state.tensors.begin(), state.tensors.end());
    if (sharded_) sharded_->restore(tensors);
    if (optimizer_) optimizer_->restore(tensors);
    WeightShards* weights = sharded_ ? sharded_->weights() : nullptr;
    if (weights != nullptr) weights->make_whole();
    parameters_.restore(tensors, kParameterPrefix);
    if (weights != nullptr) weights->take_apart();
    source_.seek(state.position);
    report_ = state.report;
    expects(!report_.step.empty(), "a training state is that after a step");
    step_.step = report_.step.back() + 1;
    step_.tokens = report_.tokens.back();
  }

  TrainingReport finish(TrainingObserver* observer) {
    for (; step_.step < options_.steps && report_.status == TrainingStatus::kComplete; ++step_.step) {
      make_step();
      if (report_.status != TrainingStatus::kComplete) continue;
      const bool stop = observer != nullptr && !observer->after_step(step_, *this);
      if (processes_.any(stop)) {
        report_.status = TrainingStatus::kInterrupted;
        report_.message = cat("stopped after step ", step_.step);
      }
    }
    if (sharded_) sharded_->end();
    return std::move(report_);
  }

 private:
  /// One update, or the finding that the run has diverged.
  void make_step() {
    const auto start = std::chrono::steady_clock::now();
    SharedGradients* const shared = shared_gradients();
    if (shared != nullptr) shared->begin_step();
    parameters_.zero_gradients();
    step_.learning_rate = options_.learning_rate * learning_rate_factor(options_.schedule, step_.step, options_.steps);
    step_.loss = backpropagate(decoder_, teacher_, source_, options_, processes_, shared,
                               sharded_ ? sharded_->weights() : nullptr, step_.tokens);
    step_.gradient_norm = shared != nullptr ? shared->sum_and_clip(options_.gradient_clip)
                                            : parameters_.clip_gradients(options_.gradient_clip);
    append(report_, step_);
    report_.message = divergence(step_, report_.loss.front(), options_.divergence_factor);
    if (report_.message.empty()) {
      if (sharded_) sharded_->step(step_.learning_rate);
      if (optimizer_) optimizer_->step(step_.learning_rate);
    } else {
      report_.status = TrainingStatus::kDiverged;
    }
    report_.seconds += seconds_since(start);
  }

  SharedGradients* shared_gradients() {
    if (sharded_) return &*sharded_;
    return summed_ ? &*summed_ : nullptr;
  }

  Decoder& decoder_;
  const Decoder* teacher_;
  BatchSource& source_;
  const TrainOptions& options_;
  Collective& processes_;
  TrainableParameters parameters_;
  Shard shard_;
  ExchangeQueue queue_;
  std::optional<AdamW> optimizer_;         ///< of all parameters, or …
  std::optional<ShardedAdamW> sharded_;    ///< … of this process's part of them
  std::optional<SummedGradients> summed_;  ///< of all parameters, of several processes
  TrainingReport report_;
  TrainingStep step_;
};

}  // namespace

void TrainOptions::validate(const std::string& path) const {
  check_at_least_one(path + ".steps", steps);
  check_at_least_one(path + ".batch_rows", batch_rows);
  check_at_least_one(path + ".accumulation", accumulation);
  check_at_least_one(path + ".sequence_length", sequence_length);
  check_not_negative(path + ".learning_rate", learning_rate);
  check_not_negative(path + ".gradient_clip", gradient_clip);
  check_not_negative(path + ".divergence_factor", divergence_factor);
  schedule.validate(path + ".schedule", steps);
  optimizer.validate(path + ".optimizer");
  loss.validate(path + ".loss");
  if (!lora) return;
  lora->validate(path + ".lora");
  if (trainable != TrainOptions{}.trainable) {
    throw ConfigError(cat(path, ".trainable = ", brief_text(trainable), ": with ", path,
                          ".lora adapters alone are trained, of the maps that it names; leave this out"));
  }
}

std::vector<std::pair<std::string, TrainingStatus>> enum_names(TrainingStatus) {
  return {{"complete", TrainingStatus::kComplete},
          {"diverged", TrainingStatus::kDiverged},
          {"interrupted", TrainingStatus::kInterrupted}};
}

TrainingReport train(Decoder& decoder, BatchSource& source, const TrainOptions& options,
                     const TrainingSurroundings& surroundings) {
  options.validate(kPath);
  const std::int64_t processes = surroundings.processes->size();
  if (rows_per_step(options) < processes) {
    throw ConfigError(cat(kPath, ": batch_rows * accumulation = ", rows_per_step(options),
                          " rows a step cannot be shared by ", processes, " processes"));
  }
  if (options.loss.needs_teacher() && surroundings.teacher == nullptr) {
    throw ConfigError(cat(kPath, ".loss: distillation and hidden_state compare with a teacher, and there is none"));
  }
  // Weights that come and go are no part of a graph.
  const bool come_and_go = options.shard == Shard::kWeights && processes > 1;
  const CheckpointedActivations checkpointed(decoder, options.checkpoint_activations || come_and_go);
  if (options.lora) add_adapters(decoder, *options.lora, options.seed, cat(kPath, ".lora"));
  TrainingReport report;
  try {
    Run run(decoder, source, options, surroundings);
    if (surroundings.start != nullptr) run.restore(*surroundings.start);
    report = run.finish(surroundings.observer);
  } catch (...) {
    give_up_lost_weights(decoder);
    throw;
  }
  if (options.lora && options.lora->save == LoraSave::kMerged) merge_adapters(decoder);
  return report;
}

}  // namespace mla
