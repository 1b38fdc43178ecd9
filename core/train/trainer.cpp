#include "core/train/trainer.h"

#include <chrono>
#include <cmath>

#include "core/base/error.h"
#include "core/train/loss.h"
#include "core/train/trainable.h"

namespace mla {
namespace {

constexpr const char* kPath = "train";

void check_at_least_one(const std::string& path, std::int64_t value) {
  if (value < 1) throw ConfigError(cat(path, ": ", value, " is less than 1"));
}

void check_not_negative(const std::string& path, double value) {
  if (!(std::isfinite(value) && value >= 0)) throw ConfigError(cat(path, ": ", value, " is not a number >= 0"));
}

/// Backpropagates one step's batches; returns their mean loss and counts their tokens.
double backpropagate(const Decoder& decoder, const Decoder* teacher, BatchSource& source, const TrainOptions& options,
                     std::int64_t& tokens) {
  std::vector<Batch> batches;
  std::int64_t scored = 0;
  for (std::int64_t i = 0; i < options.accumulation; ++i) {
    batches.push_back(source.next(options.batch_rows));
    scored += batches.back().scored;
  }
  double sum = 0;
  for (const Batch& batch : batches) {
    sum += accumulate_gradients(decoder, batch, 1 / static_cast<double>(scored), options.loss, teacher);
  }
  tokens += scored;
  return sum / static_cast<double>(scored);
}

/// Why a step says that the run has diverged; empty when it has not.
std::string divergence(const TrainingStep& step, double first_loss, double factor) {
  if (!std::isfinite(step.loss)) return cat("step ", step.step, ": the loss is not finite");
  if (!std::isfinite(step.gradient_norm)) return cat("step ", step.step, ": the gradient is not finite");
  if (factor > 0 && step.loss > factor * first_loss) {
    return cat("step ", step.step, ": the loss is ", step.loss, ", more than ", factor, " times the first (",
               first_loss, ")");
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
  CheckpointedActivations(Decoder& decoder, bool on)
      : switch_(decoder.checkpoint_activations), before_(switch_) {
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
}

std::vector<std::pair<std::string, TrainingStatus>> enum_names(TrainingStatus) {
  return {{"complete", TrainingStatus::kComplete},
          {"diverged", TrainingStatus::kDiverged},
          {"interrupted", TrainingStatus::kInterrupted}};
}

TrainingReport train(Decoder& decoder, BatchSource& source, const TrainOptions& options, TrainingObserver* observer,
                     const Decoder* teacher) {
  options.validate(kPath);
  if (options.loss.needs_teacher() && teacher == nullptr) {
    throw ConfigError(cat(kPath, ".loss: distillation and hidden_state compare with a teacher, and there is none"));
  }
  const CheckpointedActivations checkpointed(decoder, options.checkpoint_activations);
  TrainableParameters parameters(decoder, options.trainable, cat(kPath, ".trainable"));
  AdamW optimizer(parameters.named(), options.optimizer);
  TrainingReport report;
  TrainingStep step;
  for (; step.step < options.steps; ++step.step) {
    const auto start = std::chrono::steady_clock::now();
    parameters.zero_gradients();
    step.learning_rate = options.learning_rate * learning_rate_factor(options.schedule, step.step, options.steps);
    step.loss = backpropagate(decoder, teacher, source, options, step.tokens);
    step.gradient_norm = parameters.clip_gradients(options.gradient_clip);
    append(report, step);
    report.message = divergence(step, report.loss.front(), options.divergence_factor);
    if (report.message.empty()) optimizer.step(step.learning_rate);
    report.seconds += seconds_since(start);
    if (!report.message.empty()) {
      report.status = TrainingStatus::kDiverged;
      break;
    }
    if (observer != nullptr && !observer->after_step(step, optimizer)) {
      report.status = TrainingStatus::kInterrupted;
      report.message = cat("stopped after step ", step.step);
      break;
    }
  }
  return report;
}

}  // namespace mla
