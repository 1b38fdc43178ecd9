#include "core/base/registry.h"
#include "core/compress/reducers/token_rows.h"

namespace mla {
namespace {

/// E[x^2] over all tokens, channel by channel: float64 [width], or [heads * width].
class MeanSquare final : public Reducer {
 public:
  explicit MeanSquare(Options) {}
  void add(const std::vector<at::Tensor>& batch) override {
    const at::Tensor sum = token_rows(batch.front()).square().sum(0);
    sum_ = sum_.defined() ? sum_ + sum : sum;
  }
  at::Tensor result(std::int64_t tokens) const override { return sum_ / static_cast<double>(tokens); }

 private:
  at::Tensor sum_;
};

const Registration<Reducer, MeanSquare> kMeanSquare("mean_square", "mean square of each channel");

}  // namespace
}  // namespace mla
