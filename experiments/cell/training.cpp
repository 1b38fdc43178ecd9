#include "experiments/cell/training.h"

#include <chrono>
#include <cmath>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"

namespace mla {
namespace {

/// Shows the course of training, keeps its state from time to time, and ends it at a signal to any process, or when
/// another has taken the work over.
class TrainingWatch final : public TrainingObserver {
 public:
  TrainingWatch(const std::string& label, std::int64_t done, std::int64_t steps, TrainingKeeper* keeper)
      : bar_(label, steps - done, "steps"), last_step_(steps - 1), keeper_(keeper) {}

  bool after_step(const TrainingStep& step, const TrainingRun& run) override {
    if (taken_over()) check_interrupt();
    const bool stop = world().any(interrupted());
    if (keeper_ != nullptr && world().first() &&
        (stop || seconds_since_save() >= keeper_->interval() || (step.step == last_step_ && keeper_->keeps_last()))) {
      keeper_->save(run.state());
      saved_ = Clock::now();
    }
    bar_.advance(1, [&] { return cat("loss ", step.loss); });
    return !stop;
  }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds_since_save() const { return std::chrono::duration<double>(Clock::now() - saved_).count(); }

  Progress bar_;
  std::int64_t last_step_;
  TrainingKeeper* keeper_;
  Clock::time_point saved_ = Clock::now();
};

}  // namespace

std::unique_ptr<BatchSource> make_batches(const TrainConfig& config, const TokenOpener& open) {
  if (config.in_rows()) {
    const auto seed = config.packing == "shuffled_rows" ? std::optional(config.options.seed) : std::nullopt;
    return std::make_unique<RowBatches>(open(config.data, config.loss_on), seed);
  }
  std::vector<WeightedTokens> sources;
  for (const auto& [path, data] : config.sources("train")) {
    const double weight = config.mixture.empty() ? 1 : config.mixture[sources.size()].weight;
    sources.push_back({open(*data, config.loss_on), weight, path});
  }
  return std::make_unique<PackedBatches>(std::move(sources), config.options.sequence_length, config.options.seed,
                                         config.document_boundaries);
}

TrainingReport train_on(BatchSource& batches, const TrainConfig& config, Decoder& decoder, const std::string& label,
                        TrainingKeeper* keeper, const Decoder* teacher) {
  const std::optional<TrainingState> start = keeper != nullptr ? keeper->load() : std::nullopt;
  const std::int64_t done = start ? start->report.step.back() + 1 : 0;
  if (world().any(done * world().size() != std::llround(world().sum(static_cast<double>(done))))) {
    throw DataError(cat(label, ": the processes see different training states; they need one results folder"));
  }
  if (done > 0) log_info(cat(label, ": goes on after ", done, " of ", config.options.steps, " steps"));
  if (config.options.lora) {
    log_info(cat(label, ": ", describe_lora(decoder.spec(), *config.options.lora)));
  }
  TrainingWatch watch(label, done, config.options.steps, keeper);
  return train(decoder, batches, config.options,
               {.observer = &watch, .start = start ? &*start : nullptr, .teacher = teacher, .processes = &world()});
}

void append_series(const TrainingReport& report, TrainingSeries& series) {
  const std::int64_t steps = std::ssize(series.step), tokens = series.tokens.empty() ? 0 : series.tokens.back();
  for (std::size_t i = 0; i < report.step.size(); ++i) {
    series.step.push_back(steps + report.step[i]);
    series.tokens.push_back(tokens + report.tokens[i]);
    series.loss.push_back(report.loss[i]);
    series.learning_rate.push_back(report.learning_rate[i]);
    series.gradient_norm.push_back(report.gradient_norm[i]);
  }
}

}  // namespace mla
