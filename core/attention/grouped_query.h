// Multi-head and grouped-query attention: the attention of the source models.
#pragma once

#include "core/attention/attention.h"
#include "core/attention/projection.h"

namespace mla {

/// softmax(scale rot(q) rot(k)^T) v per head, with the keys and values of a group of query heads shared (MHA when
/// heads = kv_heads; arXiv 2305.13245). Caches rotated keys and values, 2 kv_heads head_dim elements per token.
class GroupedQueryAttention final : public Attention {
 public:
  struct Weights {
    Projection query;                 ///< [heads * head_dim, hidden]
    Projection key;                   ///< [kv_heads * head_dim, hidden]
    Projection value;                 ///< [kv_heads * head_dim, hidden]
    Projection output;                ///< [hidden, heads * head_dim]
    at::Tensor query_norm, key_norm;  ///< QK-norm weights [head_dim]; undefined where the family has none
  };

  GroupedQueryAttention(AttentionGeometry geometry, Weights weights);

  at::Tensor forward(const at::Tensor& hidden, const RotaryTable& rotary, const QueryKeyProbe& probe,
                     const at::Tensor& documents) const override;
  at::Tensor forward_cached(const at::Tensor& hidden, const CachedStep& step, LayerCache& cache,
                            DecodePath path) const override;
  std::vector<StreamShape> cache_streams() const override;
  void visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit) override;
  std::unique_ptr<Attention> clone() const override;

  const AttentionGeometry& geometry() const { return geometry_; }
  const Weights& weights() const { return weights_; }

 private:
  struct Heads {
    at::Tensor query, key, value;
  };
  Heads project(const at::Tensor& hidden) const;

  AttentionGeometry geometry_;
  Weights weights_;
};

}  // namespace mla
