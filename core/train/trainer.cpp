#include "core/train/trainer.h"

#include <chrono>
#include <cmath>
#include <map>

#include "core/base/error.h"
#include "core/train/loss.h"
#include "core/train/trainable.h"

namespace mla {
namespace {

constexpr const char* kPath = "train";
constexpr const char* kParameterPrefix = "parameter.";

void check_at_least_one(const std::string& path, std::int64_t value) {
  if (value < 1) throw ConfigError(cat(path, ": ", value, " is less than 1"));
}

void check_not_negative(const std::string& path, double value) {
  if (!(std::isfinite(value) && value >= 0)) throw ConfigError(cat(path, ": ", value, " is not a number >= 0"));
}

/// Backpropagates one step's batches; returns their mean loss and counts their tokens.
double backpropagate(const Decoder& decoder, BatchSource& source, const TrainOptions& options, std::int64_t& tokens) {
  std::vector<Batch> batches;
  std::int64_t scored = 0;
  for (std::int64_t i = 0; i < options.accumulation; ++i) {
    batches.push_back(source.next(options.batch_rows));
    scored += batches.back().scored;
  }
  double sum = 0;
  for (const Batch& batch : batches) sum += accumulate_gradients(decoder, batch, 1 / static_cast<double>(scored));
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

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class Run final : public TrainingRun {
 public:
  Run(Decoder& decoder, BatchSource& source, const TrainOptions& options)
      : decoder_(decoder),
        source_(source),
        options_(options),
        parameters_(decoder, options.trainable, cat(kPath, ".trainable")),
        optimizer_(parameters_.named(), options.optimizer) {}

  const TrainingReport& report() const override { return report_; }

  TrainingState state() const override {
    TrainingState state{report_, source_.position(), optimizer_.state()};
    for (const auto& [name, parameter] : parameters_.named()) {
      state.tensors.emplace_back(kParameterPrefix + name, parameter.detach());
    }
    return state;
  }

  void restore(const TrainingState& state) {
    std::map<std::string, at::Tensor> tensors(state.tensors.begin(), state.tensors.end());
    optimizer_.restore(tensors);
    parameters_.restore(tensors, kParameterPrefix);
    source_.seek(state.position);
    report_ = state.report;
    expects(!report_.step.empty(), "a training state is that after a step");
    step_.step = report_.step.back() + 1;
    step_.tokens = report_.tokens.back();
  }

  TrainingReport finish(TrainingObserver* observer) {
    for (; step_.step < options_.steps && report_.status == TrainingStatus::kComplete; ++step_.step) {
      make_step();
      if (report_.status != TrainingStatus::kComplete || observer == nullptr) continue;
      if (!observer->after_step(step_, *this)) {
        report_.status = TrainingStatus::kInterrupted;
        report_.message = cat("stopped after step ", step_.step);
      }
    }
    return std::move(report_);
  }

 private:
  /// One update, or the finding that the run has diverged.
  void make_step() {
    const auto start = std::chrono::steady_clock::now();
    parameters_.zero_gradients();
    step_.learning_rate = options_.learning_rate * learning_rate_factor(options_.schedule, step_.step, options_.steps);
    step_.loss = backpropagate(decoder_, source_, options_, step_.tokens);
    step_.gradient_norm = parameters_.clip_gradients(options_.gradient_clip);
    append(report_, step_);
    report_.message = divergence(step_, report_.loss.front(), options_.divergence_factor);
    if (report_.message.empty()) {
      optimizer_.step(step_.learning_rate);
    } else {
      report_.status = TrainingStatus::kDiverged;
    }
    report_.seconds += seconds_since(start);
  }

  Decoder& decoder_;
  BatchSource& source_;
  const TrainOptions& options_;
  TrainableParameters parameters_;
  AdamW optimizer_;
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
}

std::vector<std::pair<std::string, TrainingStatus>> enum_names(TrainingStatus) {
  return {{"complete", TrainingStatus::kComplete},
          {"diverged", TrainingStatus::kDiverged},
          {"interrupted", TrainingStatus::kInterrupted}};
}

TrainingReport train(Decoder& decoder, BatchSource& source, const TrainOptions& options, TrainingObserver* observer,
                     const TrainingState* start) {
  options.validate(kPath);
  Run run(decoder, source, options);
  if (start != nullptr) run.restore(*start);
  return run.finish(observer);
}

}  // namespace mla
