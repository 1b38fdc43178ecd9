#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// E|x| over all tokens, channel by channel: float64 [width], or [heads * width].
class MeanAbsolute final : public TokenMean {
 public:
  explicit MeanAbsolute(Options) {}

 private:
  at::Tensor sum_over_tokens(const std::vector<at::Tensor>& batch) const override {
    return token_rows(batch.front()).abs().sum(0);
  }
};

const Registration<Reducer, MeanAbsolute> kMeanAbsolute("mean_absolute", "mean size of each channel");

}  // namespace
}  // namespace mla
