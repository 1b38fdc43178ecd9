#include "experiments/training.h"

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"

namespace mla {
namespace {

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

}  // namespace

std::unique_ptr<BatchSource> make_batches(const TrainConfig& config, const TokenOpener& open) {
  if (config.packing == "rows") return std::make_unique<RowBatches>(open(config.data));
  std::vector<WeightedTokens> sources;
  for (const auto& [path, data] : config.sources("train")) {
    const double weight = config.mixture.empty() ? 1 : config.mixture[sources.size()].weight;
    sources.push_back({open(*data), weight, path});
  }
  return std::make_unique<PackedBatches>(std::move(sources), config.options.sequence_length, config.options.seed,
                                         config.document_boundaries);
}

TrainingReport train_on(BatchSource& batches, const TrainConfig& config, Decoder& decoder, const std::string& label) {
  TrainingProgress progress(label, config.options.steps);
  return train(decoder, batches, config.options, &progress, world());
}

}  // namespace mla
