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
  bool is_stated(const CellPlan& cell) const override {
    return cell.passes.size() == 1 && cell.passes.front()->partial_rope();
  }
  void apply(AttributionState& state) const override {
    const auto pass = state.cell.passes.front()->partial_rope();
    pass->apply(state.decoder, pass_inputs(state, *pass));
  }
};

const Registration<AttributionStep, PartialRope> kPartialRope("partial_rope",
                                                              "partial RoPE alone, keys and values whole");

}  // namespace
}  // namespace mla
