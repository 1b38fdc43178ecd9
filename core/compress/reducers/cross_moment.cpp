#include "core/base/registry.h"
#include "core/compress/reducers/token_rows.h"

namespace mla {
namespace {

/// E[x y^T] over all tokens, of what the first tap shows and the second, not centred: float64 [width of x, width of y].
class CrossMoment final : public Reducer {
 public:
  explicit CrossMoment(Options) {}
  bool joins_taps() const override { return true; }
  void add(const std::vector<at::Tensor>& batch) override {
    const at::Tensor sum = at::mm(token_rows(batch.at(0)).t(), token_rows(batch.at(1)));
    sum_ = sum_.defined() ? sum_ + sum : sum;
  }
  at::Tensor result(std::int64_t tokens) const override { return sum_ / static_cast<double>(tokens); }

 private:
  at::Tensor sum_;
};

const Registration<Reducer, CrossMoment> kCrossMoment("cross_moment", "mean of x y^T over tokens, of two taps");

}  // namespace
}  // namespace mla
