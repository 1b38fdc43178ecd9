#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// E[x x^T] over all tokens of each head by itself, not centred: float64 [heads, width, width].
class HeadMoments final : public TokenMean {
 public:
  explicit HeadMoments(Options) {}

 private:
  at::Tensor sum_over_tokens(const std::vector<at::Tensor>& batch) const override {
    expects(batch.front().dim() == 4, "head_moments reads a tap that shows heads");
    const at::Tensor rows = batch.front().transpose(0, 1).flatten(1, 2).to(at::kDouble);
    return at::bmm(rows.transpose(1, 2), rows);
  }
};

const Registration<Reducer, HeadMoments> kHeadMoments("head_moments", "mean of x x^T over tokens, of each head");

}  // namespace
}  // namespace mla
