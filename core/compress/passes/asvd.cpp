#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/layers/key_value_factors.h"

namespace mla {
namespace {

/// E|x| of what keys and values are projected from, float64 [hidden].
const Requirement kInputSizes{Tap::kAttentionInput, "mean_absolute"};
constexpr double kLeastSize = 1e-6;

/// ASVD (arXiv 2312.05821) of keys and values: W is [W S]_r S^-1 with S = diag(E|x|^exponent), so that channels of
/// large inputs count more.
class Asvd final : public WhitenedFactors {
 public:
  struct Options {
    KeyValueOptions factors;
    double exponent = 0.5;
    static StrategyFields strategies() { return {{"allocate", strategy_identity<Allocator>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      KeyValueOptions::fields(self.factors, visit);
      visit("exponent", self.exponent, "of the inputs' mean sizes; 0: the plain decomposition");
    }
    void validate(const std::string& path) const {
      factors.validate(path);
      if (!(exponent >= 0 && exponent <= 4))
        throw ConfigError(cat(path, ".exponent = ", exponent, ": must be from 0 to 4"));
    }
  };

  Asvd(const Options& options, const std::string& path)
      : WhitenedFactors(options.factors, kInputSizes, path), exponent_(options.exponent) {}

 private:
  Whitening whitening(const at::Tensor& statistic, std::int64_t layer) const override {
    if (!statistic.isfinite().all().item<bool>())
      throw DataError(cat(path_, ": the inputs of layer ", layer, " on calibration data are not finite"));
    const at::Tensor scales = statistic.clamp_min(kLeastSize).pow(exponent_);
    return {at::diag(scales), at::diag(scales.reciprocal())};
  }

  double exponent_;
};

const Registration<Pass, Asvd> kAsvd(
    "asvd", "latents of keys and of values, with channels weighed by their inputs' sizes (ASVD, arXiv 2312.05821)");

}  // namespace
}  // namespace mla
