#include <algorithm>
#include <cmath>

#include "core/base/registry.h"
#include "core/partial_rope/pairs.h"

namespace mla {
namespace {

enum class PairScore { kProduct, kSum };
std::vector<std::pair<std::string, PairScore>> enum_names(PairScore) {
  return {{"product", PairScore::kProduct}, {"sum", PairScore::kSum}};
}

/// S_2-norm: the r pairs with the largest score per layer and KV head, where the score of pair k is the sum over the
/// group's query heads of mean|q_k| * mean|k_k|, an upper bound of the pair's part in the attention logit
/// (Cauchy-Schwarz). `sum` replaces the product by a sum, as the code behind the paper's first version did.
class TwoNorm : public RopeSelector {
 public:
  struct Options {
    PerLayer pairs = 4;
    PairScore score = PairScore::kProduct;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("pairs", self.pairs, kPairsHelp);
      visit("score", self.score, "product | sum of the mean query norm and the mean key norm of a pair");
    }
  };
  explicit TwoNorm(Options options) : options_(std::move(options)) {}

  bool needs_norms() const override { return true; }

  void check(const HeadGeometry& geometry, const std::string& path) const override {
    check_pairs(options_.pairs, geometry, path + ".pairs");
  }

  std::int64_t pairs(std::int64_t layer, const HeadGeometry&) const override {
    return options_.pairs.at(static_cast<std::size_t>(layer));
  }

  KeptPairs select(std::int64_t layer, const HeadGeometry& geometry, const PairNorms* norms) const override {
    expects(norms != nullptr, "two_norm needs calibration norms");
    expects(std::ssize(norms->query) == geometry.heads && std::ssize(norms->key) == geometry.kv_heads,
            "calibration norms of another geometry");
    KeptPairs kept;
    for (std::int64_t head = 0; head < geometry.kv_heads; ++head) {
      kept.push_back(largest(scores(head, layer, geometry, *norms), pairs(layer, geometry)));
    }
    return kept;
  }

 private:
  std::vector<double> scores(std::int64_t kv_head, std::int64_t layer, const HeadGeometry& geometry,
                             const PairNorms& norms) const {
    const std::int64_t group = geometry.heads / geometry.kv_heads;
    const std::vector<double>& key = norms.key[static_cast<std::size_t>(kv_head)];
    std::vector<double> score(static_cast<std::size_t>(geometry.head_dim / 2), 0.0);
    for (std::int64_t member = 0; member < group; ++member) {
      const std::vector<double>& query = norms.query[static_cast<std::size_t>(kv_head * group + member)];
      expects(query.size() == score.size() && key.size() == score.size(), "calibration norms of another head width");
      for (std::size_t pair = 0; pair < score.size(); ++pair) {
        score[pair] += options_.score == PairScore::kSum ? query[pair] + key[pair] : query[pair] * key[pair];
      }
    }
    // A NaN would break the ordering below and quietly pick arbitrary pairs.
    if (!std::all_of(score.begin(), score.end(), [](double value) { return std::isfinite(value); })) {
      throw DataError(cat("layer ", layer, ", KV head ", kv_head,
                          ": the calibration norms are not finite; the model overflows on the calibration data"));
    }
    return score;
  }

  /// The `count` indices with the largest scores, ascending; of equal scores the lower index.
  static std::vector<std::int64_t> largest(const std::vector<double>& score, std::int64_t count) {
    std::vector<std::int64_t> order = consecutive_pairs(0, std::ssize(score));
    std::stable_sort(order.begin(), order.end(), [&score](std::int64_t a, std::int64_t b) {
      return score[static_cast<std::size_t>(a)] > score[static_cast<std::size_t>(b)];
    });
    order.resize(static_cast<std::size_t>(count));
    std::sort(order.begin(), order.end());
    return order;
  }

  Options options_;
};

const Registration<RotationStrategy, TwoNorm> kTwoNorm(
    "two_norm", "the pairs with the largest query and key norms on calibration data, per layer and KV head");

}  // namespace
}  // namespace mla
