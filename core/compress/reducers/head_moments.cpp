#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/reducers/token_rows.h"

namespace mla {
namespace {

/// E[x x^T] over all tokens of each head by itself, not centred: float64 [heads, width, width].
class HeadMoments final : public Reducer {
 public:
  explicit HeadMoments(Options) {}
  void add(const std::vector<at::Tensor>& batch) override {
    expects(batch.front().dim() == 4, "head_moments reads a tap that shows heads");
    const at::Tensor rows = batch.front().transpose(0, 1).flatten(1, 2).to(at::kDouble);
    const at::Tensor sum = at::bmm(rows.transpose(1, 2), rows);
    sum_ = sum_.defined() ? sum_ + sum : sum;
  }
  at::Tensor result(std::int64_t tokens) const override { return sum_ / static_cast<double>(tokens); }

 private:
  at::Tensor sum_;
};

const Registration<Reducer, HeadMoments> kHeadMoments("head_moments", "mean of x x^T over tokens, of each head");

}  // namespace
}  // namespace mla
