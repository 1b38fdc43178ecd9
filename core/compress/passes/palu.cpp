#include "core/base/registry.h"
#include "core/compress/key_value_factors.h"

namespace mla {
namespace {

/// Palu (arXiv 2407.21118): the plain SVD of the key and the value matrix, for groups of KV heads; without data unless
/// the allocation measures. One group is the paper's J-LRD, one head for each M-LRD, between them G-LRD. The paper
/// shares ranks by Fisher information; what comes nearest here is the allocator `sensitivity`.
class Palu final : public Pass {
 public:
  struct Options {
    KeyValueOptions factors;
    std::int64_t groups = 1;
    static StrategyFields strategies() { return {{"allocate", strategy_identity<Allocator>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      KeyValueOptions::fields(self.factors, visit);
      visit("groups", self.groups, "groups of neighbouring KV heads, each with a latent of its own");
    }
    void validate(const std::string& path) const {
      factors.validate(path);
      if (groups < 1) throw ConfigError(cat(path, ".groups = ", groups, ": must be at least 1"));
    }
  };

  Palu(const Options& options, const std::string& path) : factors_(options.factors, options.groups, path) {}

  Requirements requirements() const override { return factors_.requirements(); }
  bool measures_shapes() const override { return factors_.measures_shapes(); }
  ModelSpec plan(const ModelSpec& spec) const override { return factors_.plan(spec); }
  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    return factors_.apply(decoder, inputs, {});
  }

 private:
  KeyValueFactors factors_;
};

const Registration<Pass, Palu> kPalu(
    "palu", "latents of keys and of values by the plain SVD of groups of heads (Palu, arXiv 2407.21118)");

}  // namespace
}  // namespace mla
