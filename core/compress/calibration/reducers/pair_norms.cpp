#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// The mean over batch and tokens of the 2-norm of pairs (k, k + width / 2) of heads [batch, heads, length, width]:
/// float64 [heads, width / 2] (MHA2MLA appendix A).
class PairNormMean final : public TokenMean {
 public:
  explicit PairNormMean(Options) {}

 private:
  at::Tensor sum_over_tokens(const std::vector<at::Tensor>& batch) const override {
    const std::int64_t half = batch.front().size(3) / 2;
    const at::Tensor first = batch.front().narrow(3, 0, half), second = batch.front().narrow(3, half, half);
    return (first * first + second * second).sqrt_().sum(at::IntArrayRef({0, 2}), false, at::kDouble);
  }
};

const Registration<Reducer, PairNormMean> kPairNorms("pair_norms", "mean 2-norm of each rotation pair of each head");

}  // namespace
}  // namespace mla
