#include "core/base/registry.h"
#include "experiments/attribution/conversion.h"

namespace mla {
namespace {

/// The whole conversion: after partial RoPE what is left of keys and values becomes a latent. Passes without a stage of
/// partial RoPE are this one step.
class LowRank final : public AttributionStep {
 public:
  using Options = NoOptions;
  explicit LowRank(Options) {}

  int place() const override { return 20; }
  bool is_layerwise() const override { return true; }
  bool is_stated(const CellPlan& cell) const override { return !cell.passes.empty(); }
  void apply(AttributionState& state) const override {
    std::vector<PlannedPass> steps = state.cell.steps();
    if (steps.empty()) return apply_passes(state, state.cell.passes, true);
    steps.erase(steps.begin());  // taken already
    apply_passes(state, steps, false);
  }
};

const Registration<AttributionStep, LowRank> kLowRank("low_rank", "the low-rank latent of keys and values");

}  // namespace
}  // namespace mla
