#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/requirement.h"

namespace mla {
namespace {

/// How far heads look: the mean attention weight [batch, heads, queries, keys] of the key at distance 0, 1, 2, … behind
/// a query, over the queries that have such a key: float64 [heads, longest row].
class WeightByDistance final : public Reducer {
 public:
  explicit WeightByDistance(Options) {}
  void add(const std::vector<at::Tensor>& batch) override {
    const at::Tensor& weights = batch.front();
    expects(weights.dim() == 4 && weights.size(2) == weights.size(3), "by_distance reads attention weights");
    const at::Tensor sums = weights.sum(at::IntArrayRef{0}, false, at::kDouble);  // [heads, queries, keys]
    const std::int64_t length = weights.size(3);
    std::vector<at::Tensor> diagonals;
    for (std::int64_t distance = 0; distance < length; ++distance)
      diagonals.push_back(sums.diagonal(-distance, 1, 2).sum(-1));
    const at::Tensor count = at::arange(length, 0, -1, sums.options()) * static_cast<double>(weights.size(0));
    grow(length, sums);
    sum_.narrow(1, 0, length).add_(at::stack(diagonals, 1));
    count_.narrow(0, 0, length).add_(count);
  }
  at::Tensor result(std::int64_t) const override { return sum_ / count_; }

 private:
  void grow(std::int64_t length, const at::Tensor& like) {
    if (!sum_.defined()) {
      sum_ = at::zeros({like.size(0), length}, like.options());
      count_ = at::zeros({length}, like.options());
    } else if (const std::int64_t more = length - sum_.size(1); more > 0) {
      sum_ = at::constant_pad_nd(sum_, {0, more});
      count_ = at::constant_pad_nd(count_, {0, more});
    }
  }

  at::Tensor sum_, count_;
};

const Registration<Reducer, WeightByDistance> kByDistance("by_distance",
                                                          "mean attention weight by distance from query to key");

}  // namespace
}  // namespace mla
