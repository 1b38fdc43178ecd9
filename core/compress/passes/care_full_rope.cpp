#include "core/base/registry.h"
#include "core/compress/layers/key_value_factors.h"

namespace mla {
namespace {

/// By which power of the inputs' second moment H errors count.
enum class MomentPower {
  kRoot,   ///< [W H^1/2]_r H^-1/2: the closest of its rank by outputs
  kWhole,  ///< [W H]_r H^-1: strong directions count more than they do in outputs
};
std::vector<std::pair<std::string, MomentPower>> enum_names(MomentPower) {
  return {{"care", MomentPower::kRoot}, {"no_sqrt_care", MomentPower::kWhole}};
}

/// `care` damps ten times as much, as published.
constexpr double kRootDamping = 10;

/// CARE (arXiv 2603.17946) as its public code evaluates it without MLA's layout: a latent of keys and one of values,
/// each whitened by the inputs' moment, all of RoPE kept. The pass `care` is its way to one rotated key for all heads.
class CareFullRope final : public WhitenedFactors {
 public:
  struct Options {
    KeyValueOptions factors;
    MomentPower variant = MomentPower::kRoot;
    double damping = 0.01;
    static StrategyFields strategies() { return {{"allocate", strategy_identity<Allocator>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      KeyValueOptions::fields(self.factors, visit);
      visit("variant", self.variant,
            "care (whitened by the root of the inputs' moment) | no_sqrt_care (by the moment itself)");
      visit("damping", self.damping,
            "share of the inputs' mean energy that is added to each direction; care: ten times as much");
    }
    void validate(const std::string& path) const {
      factors.validate(path);
      if (!(damping > 0)) throw ConfigError(cat(path, ".damping = ", damping, ": must be more than 0"));
    }
  };

  CareFullRope(const Options& options, const std::string& path)
      : WhitenedFactors(options.factors, kInputMoment, path),
        damping_(options.damping * (options.variant == MomentPower::kRoot ? kRootDamping : 1)),
        power_(options.variant == MomentPower::kRoot ? 0.5 : 1) {}

 private:
  Whitening whitening(const at::Tensor& statistic, std::int64_t) const override {
    return power_whitening(statistic, damping_, power_);
  }

  double damping_, power_;
};

const Registration<Pass, CareFullRope> kCareFullRope(
    "care_full_rope", "latents of keys and of values, whitened as in CARE, with all of RoPE (arXiv 2603.17946)");

}  // namespace
}  // namespace mla
