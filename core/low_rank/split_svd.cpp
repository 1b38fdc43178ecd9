#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/low_rank/latent_width.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

/// How the latent is shared out.
struct Shares {
  std::int64_t key = 0, value = 0;
};

/// Half to each, V the extra one; what exceeds the possible rank of one goes to the other.
Shares divide(std::int64_t width, std::int64_t key_rank, std::int64_t value_rank) {
  const std::int64_t key =
      std::clamp(width / 2, std::min(std::max<std::int64_t>(0, width - value_rank), key_rank), key_rank);
  return {key, width - key};
}

class SplitDecomposition : public Decomposition {
 public:
  SplitDecomposition(const LayerProblem& problem, std::int64_t largest_width, const RankFactorOptions& options)
      : key_(problem.key),
        value_(problem.value),
        key_factor_({{key_, problem.query_metric}}, problem.input_moment, shares(largest_width).key, options),
        value_factor_({{value_, problem.output_metric}}, problem.input_moment, shares(largest_width).value, options) {}

  Factorization truncate(std::int64_t width) const override {
    const Shares share = shares(width);
    Factorization result;
    result.down = at::cat({key_factor_.down(share.key), value_factor_.down(share.value)});
    result.up_key = key_factor_.up(0, share.key);
    result.up_value = value_factor_.up(0, share.value);
    result.key = {0, share.key};
    result.value = {share.key, share.value};
    result.singular_values = key_factor_.value_list(share.key);
    result.value_singular_values = value_factor_.value_list(share.value);
    result.error = relative_error(key_, key_factor_.squared_error(0, share.key), value_,
                                  value_factor_.squared_error(0, share.value));
    return result;
  }

  double error(std::int64_t width) const override {
    const Shares share = shares(width);
    return relative(key_factor_.energy_left(share.key) + value_factor_.energy_left(share.value),
                    key_factor_.energy() + value_factor_.energy());
  }

 private:
  Shares shares(std::int64_t width) const {
    return divide(width, std::min(key_.size(0), key_.size(1)), std::min(value_.size(0), value_.size(1)));
  }

  at::Tensor key_, value_;
  RankFactor key_factor_, value_factor_;
};

enum class SplitBudget { kTotal, kEach };
std::vector<std::pair<std::string, SplitBudget>> enum_names(SplitBudget) {
  return {{"total", SplitBudget::kTotal}, {"each", SplitBudget::kEach}};
}

/// SVD_split: K_nope and V decomposed alone; the latent is [key latent; value latent]. With split_budget `total` they
/// share kv_heads * d_kv elements half and half, the cache of joint_svd at the same d_kv; what the rank of one cannot
/// use goes to the other. With `each` both get kv_heads * d_kv, as in the authors' code.
class SplitSvd : public Factorizer {
 public:
  struct Options {
    LatentWidth width;
    SplitBudget split_budget = SplitBudget::kTotal;
    RankFactorOptions factor;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      LatentWidth::fields(self.width, visit);
      visit("split_budget", self.split_budget,
            "total: keys and values share d_kv | each: d_kv for each, twice the cache");
      RankFactorOptions::fields(self.factor, visit);
    }
    void validate(const std::string& path) const { factor.validate(path); }
  };
  explicit SplitSvd(Options options) : options_(std::move(options)) {}

  LatentShape shape(std::int64_t layer, const FactorGeometry& geometry) const override {
    const Shares share = shares(layer, geometry);
    return {share.key + share.value, {0, share.key}, {share.key, share.value}};
  }

  WidthBounds bounds(std::int64_t layer, const FactorGeometry& geometry) const override {
    return {1, key_rank(layer, geometry) + value_rank(geometry)};
  }

  Json sharing_key() const override {
    return {"split_svd", detail::write_enum(options_.split_budget), write_fields(options_.factor)};
  }

  bool compresses_keys() const override { return true; }

  void check(const FactorGeometry& geometry, const std::string& path) const override {
    options_.width.check(geometry, path);
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer) {
      const Shares share = shares(layer, geometry);
      const Shares largest{key_rank(layer, geometry), value_rank(geometry)};
      if (share.key <= largest.key && share.value <= largest.value) continue;
      throw ConfigError(cat(options_.width.describe(path, layer), ": the latent would have ", share.key, " + ",
                            share.value, " elements but K_nope has rank at most ", largest.key, " and V ",
                            largest.value, " (", geometry.nope_rows(layer), " and ", geometry.value_rows(),
                            " rows, hidden ", geometry.hidden, ")"));
    }
  }

  bool needs_input_moment() const override { return options_.factor.needs_input_moment(); }
  bool needs_attention_metrics() const override { return options_.factor.needs_attention_metrics(); }

  std::unique_ptr<Decomposition> decompose(const LayerProblem& problem, std::int64_t largest_width) const override {
    return std::make_unique<SplitDecomposition>(problem, largest_width, options_.factor);
  }

 private:
  static std::int64_t key_rank(std::int64_t layer, const FactorGeometry& geometry) {
    return std::min(geometry.nope_rows(layer), geometry.hidden);
  }
  static std::int64_t value_rank(const FactorGeometry& geometry) {
    return std::min(geometry.value_rows(), geometry.hidden);
  }

  Shares shares(std::int64_t layer, const FactorGeometry& geometry) const {
    const std::int64_t elements = options_.width.elements(layer, geometry);
    // Each for itself: a budget that does not fit is an error of the config, not to be moved over. Without
    // position-free keys there is nothing to give a second budget to.
    if (options_.split_budget == SplitBudget::kEach && key_rank(layer, geometry) > 0) return {elements, elements};
    return divide(elements, key_rank(layer, geometry), value_rank(geometry));
  }

  Options options_;
};

const Registration<Factorizer, SplitSvd> kSplitSvd("split_svd", "a latent for keys and one for values: two SVDs");

}  // namespace
}  // namespace mla
