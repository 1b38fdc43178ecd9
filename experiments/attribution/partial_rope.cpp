#include "core/base/registry.h"
#include "experiments/attribution/conversion.h"

namespace mla {
namespace {

/// Fewer pairs keep their rotation; keys and values stay whole.
class PartialRope final : public AttributionStep {
 public:
  using Options = NoOptions;
  explicit PartialRope(Options) {}

  int place() const override { return 10; }
  bool is_layerwise() const override { return true; }
  bool is_stated(const CellPlan& cell) const override { return !cell.steps().empty(); }
  void apply(AttributionState& state) const override {
    std::vector<PlannedPass> steps = state.cell.steps();
    steps.resize(1);
    apply_passes(state, steps, true);
  }
};

const Registration<AttributionStep, PartialRope> kPartialRope("partial_rope",
                                                              "partial RoPE alone, keys and values whole");

}  // namespace
}  // namespace mla
