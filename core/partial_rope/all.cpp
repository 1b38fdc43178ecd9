#include "core/base/registry.h"
#include "core/partial_rope/pairs.h"

namespace mla {
namespace {

/// Every pair keeps its rotation: the model's rotary embedding stays as it is.
class All : public RopeSelector {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit All(Options) {}

  void check(const HeadGeometry&, const std::string&) const override {}

  std::int64_t pairs(std::int64_t, const HeadGeometry& geometry) const override { return geometry.head_dim / 2; }

  KeptPairs select(std::int64_t, const HeadGeometry& geometry, const PairNorms*) const override {
    return same_for_all_heads(consecutive_pairs(0, geometry.head_dim / 2), geometry);
  }
};

const Registration<RotationStrategy, All> kAll("all", "every pair: the rotary embedding stays complete");

}  // namespace
}  // namespace mla
