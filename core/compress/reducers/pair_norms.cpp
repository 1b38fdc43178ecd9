#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/requirement.h"

namespace mla {
namespace {

/// The mean over batch and tokens of the 2-norm of pairs (k, k + width / 2) of heads [batch, heads, length, width]:
/// float64 [heads, width / 2] (MHA2MLA appendix A).
class PairNormMean final : public Reducer {
 public:
  explicit PairNormMean(Options) {}
  void add(const std::vector<at::Tensor>& batch) override {
    const std::int64_t half = batch.front().size(3) / 2;
    const at::Tensor first = batch.front().narrow(3, 0, half), second = batch.front().narrow(3, half, half);
    const at::Tensor norms = (first * first + second * second).sqrt_().sum(at::IntArrayRef({0, 2}), false, at::kDouble);
    sum_ = sum_.defined() ? sum_ + norms : norms;
  }
  at::Tensor result(std::int64_t tokens) const override { return sum_ / static_cast<double>(tokens); }

 private:
  at::Tensor sum_;
};

const Registration<Reducer, PairNormMean> kPairNorms("pair_norms", "mean 2-norm of each rotation pair of each head");

}  // namespace
}  // namespace mla
