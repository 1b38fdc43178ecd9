#include "experiments/training.h"

#include <memory>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr const char* kPacked = "packed";
constexpr const char* kRows = "rows";

/// Shows the course of training, and ends it at a signal.
class TrainingProgress final : public TrainingObserver {
 public:
  TrainingProgress(const std::string& label, std::int64_t steps) : bar_(label, steps, "steps") {}
  bool after_step(const TrainingStep& step, const AdamW&) override {
    bar_.advance(1, [&] { return cat("loss ", step.loss); });
    return !interrupted();
  }

 private:
  Progress bar_;
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

TrainingReport train_on(const TokenRows& tokens, const TrainConfig& config, Decoder& decoder,
                        const std::string& label) {
  const auto batches = make_batches(tokens, config);
  TrainingProgress progress(label, config.options.steps);
  return train(decoder, *batches, config.options, &progress);
}

}  // namespace mla
