#include "core/base/registry.h"
#include "core/partial_rope/pairs.h"

namespace mla {
namespace {

/// S_comb of KV head j = {(j + k K) c : 0 <= k < r} with K KV heads and the widest whole step c that fits: evenly
/// spaced pairs, each head's one step behind those of the head before. All heads together keep each pair 0, c, 2c, …
/// once, which is a ladder of frequencies as every engine computes it: the rotated keys of all heads, side by side, are
/// a key of one. Where they would need more pairs than there are, c is a fraction and pairs are rounded down: no ladder
/// any more.
class Comb : public RopeSelector {
 public:
  using Options = PairsOptions;
  explicit Comb(Options options) : options_(std::move(options)) {}

  void check(const HeadGeometry& geometry, const std::string& path) const override {
    check_pairs(options_.pairs, geometry, path + ".pairs");
  }

  std::int64_t pairs(std::int64_t layer, const HeadGeometry&) const override {
    return options_.pairs.at(static_cast<std::size_t>(layer));
  }

  KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms*) const override {
    const std::int64_t count = pairs(layer, geometry), heads = geometry.kv_heads;
    KeptPairs kept(static_cast<std::size_t>(heads));
    if (count == 0) return kept;
    const std::int64_t all = geometry.head_dim / 2, step = all / (heads * count);
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t k = 0; k < count; ++k) {
        const std::int64_t place = head + k * heads;
        kept[static_cast<std::size_t>(head)].push_back(step > 0 ? place * step : place * all / (heads * count));
      }
    }
    return kept;
  }

 private:
  Options options_;
};

const Registration<RotationStrategy, Comb> kComb(
    "comb", "evenly spaced pairs, each KV head's between those of the others: every engine can serve them");

}  // namespace
}  // namespace mla
