#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/calibration/reducers/token_mean.h"

namespace mla {
namespace {

/// E[x x^T] over all tokens, not centred: float64 [width, width]. Heads count together, one after the other: [heads *
/// width, heads * width].
class SecondMoment final : public Reducer {
 public:
  explicit SecondMoment(Options) {}
  void add(const std::vector<at::Tensor>& batch) override {
    const at::Tensor rows = token_rows(batch.front());
    if (!sum_.defined()) sum_ = at::zeros({rows.size(1), rows.size(1)}, rows.options());
    // In place: of wide models the matrix is large.
    sum_.addmm_(rows.t(), rows);
  }
  at::Tensor result(std::int64_t tokens) const override { return sum_ / static_cast<double>(tokens); }

 private:
  at::Tensor sum_;
};

const Registration<Reducer, SecondMoment> kSecondMoment("second_moment", "mean of x x^T over tokens, not centred");

}  // namespace
}  // namespace mla
