#include "core/base/registry.h"
#include "core/compress/reducers/token_rows.h"

namespace mla {
namespace {

/// E[x] over all tokens: float64 [width], or [heads * width].
class TokenMean final : public Reducer {
 public:
  explicit TokenMean(Options) {}
  void add(const std::vector<at::Tensor>& batch) override {
    const at::Tensor sum = token_rows(batch.front()).sum(0);
    sum_ = sum_.defined() ? sum_ + sum : sum;
  }
  at::Tensor result(std::int64_t tokens) const override { return sum_ / static_cast<double>(tokens); }

 private:
  at::Tensor sum_;
};

const Registration<Reducer, TokenMean> kTokenMean("mean", "mean of x over tokens");

}  // namespace
}  // namespace mla
