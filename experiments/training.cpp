#include "experiments/training.h"

#include <chrono>
#include <memory>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kPacked = "packed";
constexpr const char* kRows = "rows";

/// Shows the course of training, keeps its state from time to time, and ends it at a signal.
class TrainingWatch final : public TrainingObserver {
 public:
  TrainingWatch(const std::string& label, std::int64_t steps, TrainingKeeper* keeper)
      : bar_(label, steps, "steps"), keeper_(keeper) {}

  bool after_step(const TrainingStep& step, const TrainingRun& run) override {
    const bool stop = interrupted();
    if (keeper_ != nullptr && (stop || seconds_since_save() >= keeper_->interval())) {
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
  TrainingKeeper* keeper_;
  Clock::time_point saved_ = Clock::now();
};

std::unique_ptr<BatchSource> make_batches(const TokenRows& tokens, const TrainConfig& config) {
  if (config.packing == kRows) return std::make_unique<RowBatches>(tokens.rows);
  return std::make_unique<PackedBatches>(tokens.rows, config.options.sequence_length, config.options.seed);
}

}  // namespace

void validate_training(const TrainConfig& config, const std::string& path) {
  config.options.validate(path);
  config.data.validate(path + ".data");
  if (config.packing != kPacked && config.packing != kRows) {
    throw ConfigError(cat(path, ".packing: ", unknown_name(config.packing, {kPacked, kRows})));
  }
}

TrainingReport train_on(const TokenRows& tokens, const TrainConfig& config, Decoder& decoder, const std::string& label,
                        TrainingKeeper* keeper) {
  const auto batches = make_batches(tokens, config);
  const std::optional<TrainingState> start = keeper != nullptr ? keeper->load() : std::nullopt;
  const std::int64_t done = start ? start->report.step.back() + 1 : 0;
  if (done > 0) log_info(cat(label, ": goes on after ", done, " of ", config.options.steps, " steps"));
  TrainingWatch watch(label, config.options.steps - done, keeper);
  return train(decoder, *batches, config.options, &watch, start ? &*start : nullptr);
}

}  // namespace mla
