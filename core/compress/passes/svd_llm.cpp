#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/layers/key_value_factors.h"

namespace mla {
namespace {

/// SVD-LLM (arXiv 2403.07378) of keys and values: with the Cholesky factor L of the inputs' damped second moment, W is
/// [W L]_r L^-1, the closest of its rank by what keys and values are on calibration inputs.
class SvdLlm final : public WhitenedFactors {
 public:
  struct Options {
    KeyValueOptions factors;
    double damping = 0.01;
    static StrategyFields strategies() { return {{"allocate", strategy_identity<Allocator>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      KeyValueOptions::fields(self.factors, visit);
      visit("damping", self.damping, "share of the inputs' mean energy that is added to each direction");
    }
    void validate(const std::string& path) const {
      factors.validate(path);
      if (!(damping > 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must be more than 0"));
    }
  };

  SvdLlm(const Options& options, const std::string& path)
      : WhitenedFactors(options.factors, kInputMoment, path), damping_(options.damping) {}

 private:
  Whitening whitening(const at::Tensor& statistic, std::int64_t layer) const override {
    at::Tensor moment = statistic.clone();
    moment.diagonal().add_(damping_ * moment.diagonal().mean());
    const auto [root, info] = at::linalg_cholesky_ex(moment);
    if (info.item<int>() != 0)
      throw DataError(cat(path_, ": the inputs of layer ", layer, " on calibration data are zero or not finite"));
    const at::Tensor unit = at::eye(moment.size(0), moment.options());
    return {root, at::linalg_solve_triangular(root, unit, /*upper=*/false)};
  }

  double damping_;
};

const Registration<Pass, SvdLlm> kSvdLlm(
    "svd_llm", "latents of keys and of values, close on calibration inputs (SVD-LLM, arXiv 2403.07378)");

}  // namespace
}  // namespace mla
