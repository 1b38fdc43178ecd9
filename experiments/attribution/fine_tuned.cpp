#include "core/base/error.h"
#include "core/base/registry.h"
#include "experiments/attribution/conversion.h"
#include "experiments/cell/training.h"

namespace mla {
namespace {

/// Fine-tuning as the config's `train` states it.
class FineTuned final : public AttributionStep {
 public:
  using Options = NoOptions;
  explicit FineTuned(Options) {}

  int place() const override { return 40; }
  bool is_stated(const CellPlan& cell) const override {
    if (!cell.options.stages.empty())
      throw ConfigError("stages: the walk converts first and trains once; state `compress` and `train` instead");
    if (!cell.options.train) return false;
    if (cell.options.train->partial_rope_steps > 0) {
      throw ConfigError("train.partial_rope_steps: the walk converts first and trains once; set it to 0");
    }
    return true;
  }
  void apply(AttributionState& state) const override {
    const ExperimentConfig& options = state.cell.options;
    const auto batches = make_batches(*options.train, [&](const DataOptions& data, LossOn loss_on) {
      return state.session.tokens(options.model, data, loss_on);
    });
    const TrainingReport report = train_on(*batches, *options.train, state.decoder, "fine-tune", nullptr,
                                           &state.session.source(options.model).decoder);
    if (report.status == TrainingStatus::kInterrupted) throw Interrupted(report.message);
    if (report.status == TrainingStatus::kDiverged) throw DataError(cat("fine-tuning diverged: ", report.message));
  }
};

const Registration<AttributionStep, FineTuned> kFineTuned("fine_tuned", "fine-tuning as `train` states it");

}  // namespace
}  // namespace mla
