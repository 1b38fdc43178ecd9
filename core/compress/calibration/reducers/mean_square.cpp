#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// E[x^2] over all tokens, channel by channel: float64 [width], or [heads * width].
class MeanSquare final : public TokenMean {
 public:
  explicit MeanSquare(Options) {}

 private:
  at::Tensor sum_over_tokens(const std::vector<at::Tensor>& batch) const override {
    return token_rows(batch.front()).square().sum(0);
  }
};

const Registration<Reducer, MeanSquare> kMeanSquare("mean_square", "mean square of each channel");

}  // namespace
}  // namespace mla
