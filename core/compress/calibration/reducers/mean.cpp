#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// E[x] over all tokens: float64 [width], or [heads * width].
class MeanVector final : public TokenMean {
 public:
  explicit MeanVector(Options) {}

 private:
  at::Tensor sum_over_tokens(const std::vector<at::Tensor>& batch) const override {
    return token_rows(batch.front()).sum(0);
  }
};

const Registration<Reducer, MeanVector> kMean("mean", "mean of x over tokens");

}  // namespace
}  // namespace mla
