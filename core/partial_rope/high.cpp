#include "core/base/registry.h"
#include "core/partial_rope/pairs.h"

namespace mla {
namespace {

/// S_high = {k : 0 <= k < r}: the pairs of highest frequency, the same in every head and layer.
class High : public RopeSelector {
 public:
  using Options = PairsOptions;
  explicit High(Options options) : options_(std::move(options)) {}

  void check(const HeadGeometry& geometry, const std::string& path) const override {
    check_pairs(options_.pairs, geometry, path + ".pairs");
  }

  std::int64_t pairs(std::int64_t layer, const HeadGeometry&) const override {
    return options_.pairs.at(static_cast<std::size_t>(layer));
  }

  KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms*) const override {
    const std::int64_t count = pairs(layer, geometry);
    return same_for_all_heads(consecutive_pairs(0, count), geometry);
  }

 private:
  Options options_;
};

const Registration<RotationStrategy, High> kHigh("high", "the fastest rotating pairs of every head (p-RoPE)");

}  // namespace
}  // namespace mla
