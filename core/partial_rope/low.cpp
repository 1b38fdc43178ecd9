#include "core/base/registry.h"
#include "core/partial_rope/pairs.h"

namespace mla {
namespace {

/// S_low = {k : head_dim/2 - r <= k < head_dim/2}: the pairs of lowest frequency, the same in every head and layer.
class Low : public RopeSelector {
 public:
  using Options = PairsOptions;
  explicit Low(Options options) : options_(std::move(options)) {}

  void check(const HeadGeometry& geometry, const std::string& path) const override {
    check_pairs(options_.pairs, geometry, path + ".pairs");
  }

  std::int64_t pairs(std::int64_t layer, const HeadGeometry&) const override {
    return options_.pairs.at(static_cast<std::size_t>(layer));
  }

  KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms*) const override {
    const std::int64_t count = pairs(layer, geometry);
    return same_for_all_heads(consecutive_pairs(geometry.head_dim / 2 - count, count), geometry);
  }

 private:
  Options options_;
};

const Registration<RotationStrategy, Low> kLow("low", "the slowest rotating pairs of every head (a control)");

}  // namespace
}  // namespace mla
