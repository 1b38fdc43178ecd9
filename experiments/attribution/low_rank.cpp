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
    if (state.cell.passes.size() == 1 && state.cell.passes.front()->partial_rope()) {
      const Pass& pass = *state.cell.passes.front();
      pass.add_low_rank(state.decoder, pass_inputs(state, pass));
      return;
    }
    for (const auto& pass : state.cell.passes) pass->apply(state.decoder, pass_inputs(state, *pass));
  }
};

const Registration<AttributionStep, LowRank> kLowRank("low_rank", "the low-rank latent of keys and values");

}  // namespace
}  // namespace mla
