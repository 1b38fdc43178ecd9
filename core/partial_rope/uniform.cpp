#include "core/base/registry.h"
#include "core/partial_rope/pairs.h"

namespace mla {
namespace {

/// S_uniform = {start + floor(k * head_dim / (2r)) : 0 <= k < r}: evenly spaced pairs, the same in every head and
/// layer. With start = 0 the paper's set; defined also where 2r does not divide head_dim.
class Uniform : public RopeSelector {
 public:
  struct Options {
    PerLayer pairs = 4;
    std::int64_t start = 0;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("pairs", self.pairs, kPairsHelp);
      visit("start", self.start, "the first kept pair; the others follow at even distances");
    }
  };
  explicit Uniform(Options options) : options_(std::move(options)) {}

  void check(const HeadGeometry& geometry, const std::string& path) const override {
    check_pairs(options_.pairs, geometry, path + ".pairs");
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer) {
      const std::vector<std::int64_t> spaced = spaced_pairs(layer, geometry);
      if (spaced.empty()) continue;
      const std::int64_t largest_start = geometry.head_dim / 2 - 1 - spaced.back();
      if (options_.start < 0 || options_.start > largest_start) {
        throw ConfigError(cat(path, ".start = ", options_.start, ": with ", spaced.size(), " of ",
                              geometry.head_dim / 2, " pairs it must lie in 0..", largest_start));
      }
    }
  }

  std::int64_t pairs(std::int64_t layer, const HeadGeometry&) const override {
    return options_.pairs.at(static_cast<std::size_t>(layer));
  }

  KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms*) const override {
    std::vector<std::int64_t> kept = spaced_pairs(layer, geometry);
    for (std::int64_t& pair : kept) pair += options_.start;
    return same_for_all_heads(kept, geometry);
  }

 private:
  std::vector<std::int64_t> spaced_pairs(std::int64_t layer, const HeadGeometry& geometry) const {
    const std::int64_t count = pairs(layer, geometry);
    std::vector<std::int64_t> spaced;
    for (std::int64_t k = 0; k < count; ++k) spaced.push_back(k * geometry.head_dim / (2 * count));
    return spaced;
  }

  Options options_;
};

const Registration<RotationStrategy, Uniform> kUniform("uniform", "evenly spaced pairs, the same in every head");

}  // namespace
}  // namespace mla
