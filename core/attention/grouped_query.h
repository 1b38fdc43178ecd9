// Multi-head and grouped-query attention: the attention of the source models.
#pragma once

#include "core/attention/attention.h"
#include "core/attention/linear.h"

namespace mla {

/// A layer of grouped-query attention: its heads and nothing else.
class GroupedQuerySpec final : public AttentionSpec {
 public:
  using Options = HeadFields;
  explicit GroupedQuerySpec(HeadFields heads) : heads_(heads) {}

  std::string kind() const override { return "grouped_query"; }
  Json fields() const override;
  void check(const ModelFrame& frame, const std::string& where) const override;
  std::vector<Parameter> parameters(const ModelFrame& frame) const override;
  std::vector<StreamShape> streams() const override;
  std::optional<HeadFields> heads() const override { return heads_; }
  std::vector<std::string> provides() const override { return {kAttentionWeights}; }
  double cached_operations() const override { return expanded_operations(); }
  double expanded_operations() const override;
  std::int64_t rotated_pairs() const override { return heads_.rope == RopeUse::kNone ? 0 : heads_.head_dim / 2; }
  bool can_be_averaged(const AttentionSpec& other) const override { return *this == other; }
  std::unique_ptr<Attention> build(const ModelFrame& frame, LayerWeights weights) const override;

 private:
  HeadFields heads_;
};

/// softmax(scale rot(q) rot(k)^T) v per head, with the keys and values of a group of query heads shared (MHA when
/// heads = kv_heads; arXiv 2305.13245). Caches rotated keys and values, 2 kv_heads head_dim elements per token.
class GroupedQueryAttention final : public Attention {
 public:
  struct Weights {
    Linear query;   ///< [heads * head_dim, hidden]
    Linear key;     ///< [kv_heads * head_dim, hidden]
    Linear value;   ///< [kv_heads * head_dim, hidden]
    Linear output;  ///< [hidden, heads * head_dim]
    /// QK-norm weights [head_dim], or of all heads [heads * head_dim] and [kv_heads * head_dim]; undefined where the
    /// family has none.
    at::Tensor query_norm, key_norm;
  };

  GroupedQueryAttention(const ModelFrame& frame, HeadFields heads, Weights weights);

  std::shared_ptr<const AttentionSpec> spec() const override;
  at::Tensor forward(const at::Tensor& hidden, ForwardContext& context) const override;
  at::Tensor forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const override;
  void visit_weights(const WeightVisitor& visit) override;
  std::unique_ptr<Attention> clone() const override;

  const ModelFrame& frame() const { return frame_; }
  const HeadFields& heads() const { return heads_; }
  const Weights& weights() const { return weights_; }

 private:
  struct Heads {
    at::Tensor query, key, value;
  };
  Heads project(const at::Tensor& hidden) const;
  at::Tensor finish(const at::Tensor& context_heads, const ForwardContext& context) const;

  ModelFrame frame_;
  HeadFields heads_;
  double scale_ = 1;
  Weights weights_;
};

/// `attention` as what it is where it is of this kind, else null.
const GroupedQueryAttention* as_grouped_query(const Attention& attention);
/// The heads of a layer of this kind; nothing for another kind.
std::optional<HeadFields> grouped_query_heads(const AttentionSpec& spec);

}  // namespace mla
