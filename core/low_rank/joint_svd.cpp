#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/low_rank/latent_width.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

class JointDecomposition : public Decomposition {
 public:
  JointDecomposition(const LayerProblem& problem, std::int64_t largest_width, const RankFactorOptions& options,
                     bool balanced)
      : key_(problem.key),
        value_(problem.value),
        factor_({{key_, problem.query_metric}, {value_, problem.output_metric}}, problem.input_moment, largest_width,
                options, balanced) {}

  Factorization truncate(std::int64_t width) const override {
    Factorization result;
    result.down = factor_.down(width);
    result.up_key = factor_.up(0, width);
    result.up_value = factor_.up(1, width);
    result.key = result.value = {0, width};
    result.singular_values = factor_.value_list(width);
    result.error = relative_error(key_, factor_.squared_error(0, width), value_, factor_.squared_error(1, width));
    return result;
  }

  double error(std::int64_t width) const override { return relative(factor_.energy_left(width), factor_.energy()); }

 private:
  at::Tensor key_, value_;
  RankFactor factor_;
};

/// How keys and values are weighed against each other.
enum class Balance { kNone, kNorms };
std::vector<std::pair<std::string, Balance>> enum_names(Balance) {
  return {{"none", Balance::kNone}, {"norms", Balance::kNorms}};
}

/// SVD_joint: [K_nope; V] = U S B^T, cut to rank kv_heads * d_kv. Keys and values read the same latent B^T x. See
/// RankFactor for where the singular values go.
class JointSvd : public Factorizer {
 public:
  struct Options {
    LatentWidth width;
    Balance balance = Balance::kNone;
    RankFactorOptions factor;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      LatentWidth::fields(self.width, visit);
      RankFactorOptions::fields(self.factor, visit);
      visit("balance", self.balance,
            "none: keys and values count as they are | norms: keys are scaled so that rows of both have the same mean "
            "norm by the metric");
    }
    void validate(const std::string& path) const { factor.validate(path); }
  };
  explicit JointSvd(Options options) : options_(std::move(options)) {}

  LatentShape shape(std::int64_t layer, const FactorGeometry& geometry) const override {
    const std::int64_t width = options_.width.elements(layer, geometry);
    return {width, {0, width}, {0, width}};
  }

  WidthBounds bounds(std::int64_t layer, const FactorGeometry& geometry) const override {
    return {1, std::min(geometry.nope_rows(layer) + geometry.value_rows(), geometry.hidden)};
  }

  Json sharing_key() const override {
    Json key = {"joint_svd", write_fields(options_.factor)};
    if (options_.balance == Balance::kNorms) key.push_back("norms");
    return key;
  }

  bool compresses_keys() const override { return true; }

  void check(const FactorGeometry& geometry, const std::string& path) const override {
    options_.width.check(geometry, path);
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer) {
      const std::int64_t rank = bounds(layer, geometry).most;
      if (latent_width(layer, geometry) <= rank) continue;
      throw ConfigError(cat(options_.width.describe(path, layer), ": the latent would have ",
                            latent_width(layer, geometry), " elements but [K_nope; V] has rank at most ", rank, " (",
                            geometry.nope_rows(layer), " + ", geometry.value_rows(), " rows, hidden ", geometry.hidden,
                            ")"));
    }
  }

  bool needs_input_moment() const override { return options_.factor.needs_input_moment(); }
  bool needs_attention_metrics() const override { return options_.factor.needs_attention_metrics(); }

  std::unique_ptr<Decomposition> decompose(const LayerProblem& problem, std::int64_t largest_width) const override {
    return std::make_unique<JointDecomposition>(problem, largest_width, options_.factor,
                                                options_.balance == Balance::kNorms);
  }

 private:
  Options options_;
};

const Registration<Factorizer, JointSvd> kJointSvd("joint_svd", "one latent for keys and values: SVD of [K_nope; V]");

}  // namespace
}  // namespace mla
