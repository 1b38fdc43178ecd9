#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/requirement.h"

namespace mla {
namespace {

/// How alike the layers' states are: the mean over tokens of the cosine between what layers i and j show, float64
/// [layers, layers]. Of attention weights, or of other heads, [batch, heads, tokens, width], a token's heads stand one
/// after the other: head h is compared with head h.
class LayerSimilarity final : public Reducer {
 public:
  explicit LayerSimilarity(Options) {}
  bool spans_layers() const override { return true; }
  void add(const std::vector<at::Tensor>& batch) override {
    for (const at::Tensor& layer : batch)
      expects(layer.dim() >= 3 && layer.sizes() == batch.front().sizes(), "similarity compares states of one width");
    const std::int64_t tokens = batch.front().size(0) * batch.front().size(batch.front().dim() - 2);
    std::vector<at::Tensor> rows;
    for (const at::Tensor& layer : batch)
      rows.push_back((layer.dim() == 4 ? layer.transpose(1, 2).flatten(2) : layer).flatten(0, 1));
    for (std::int64_t begin = 0; begin < tokens; begin += kTokensAtOnce)
      add_tokens(rows, begin, std::min(kTokensAtOnce, tokens - begin));
  }
  at::Tensor result(std::int64_t tokens) const override { return sum_ / static_cast<double>(tokens); }

 private:
  /// Bounds the memory: all layers' states of so many tokens are held in float64.
  static constexpr std::int64_t kTokensAtOnce = 256;

  void add_tokens(const std::vector<at::Tensor>& batch, std::int64_t begin, std::int64_t count) {
    std::vector<at::Tensor> directions;
    for (const at::Tensor& layer : batch) {
      const at::Tensor rows = layer.narrow(0, begin, count).to(at::kDouble);
      // A state of nothing but zeros is like no other.
      directions.push_back((rows / rows.norm(2, 1, true).clamp_min(1e-300)).flatten());
    }
    const at::Tensor all = at::stack(directions), sum = at::mm(all, all.t());
    sum_ = sum_.defined() ? sum_ + sum : sum;
  }

  at::Tensor sum_;
};

const Registration<Reducer, LayerSimilarity> kSimilarity("similarity", "mean cosine between what two layers show");

}  // namespace
}  // namespace mla
