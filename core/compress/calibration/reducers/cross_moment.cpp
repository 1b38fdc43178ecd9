#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// E[x y^T] over all tokens, of what the first tap shows and the second, not centred: float64 [width of x, width of y].
class CrossMoment final : public TokenMean {
 public:
  explicit CrossMoment(Options) {}
  bool joins_taps() const override { return true; }

 private:
  at::Tensor sum_over_tokens(const std::vector<at::Tensor>& batch) const override {
    return at::mm(token_rows(batch.at(0)).t(), token_rows(batch.at(1)));
  }
};

const Registration<Reducer, CrossMoment> kCrossMoment("cross_moment", "mean of x y^T over tokens, of two taps");

}  // namespace
}  // namespace mla
