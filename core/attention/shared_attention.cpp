// Attention with the weights of a layer before it (Shared Attention, arXiv 2407.12866).
#include "core/attention/attention.h"
#include "core/attention/attention_weights.h"
#include "core/attention/pieces.h"
#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {
namespace {

/// A layer without queries and keys: head h weighs the layer's own values with what head h of the nearest layer before
/// it that computes attention weights gave to each token. Caches values only. Whether keys are rotated, and how far a
/// query looks, is decided where the weights are computed.
class SharedAttentionSpec final : public AttentionSpec {
 public:
  using Options = HeadFields;
  explicit SharedAttentionSpec(HeadFields heads) : heads_(heads) {}

  std::string kind() const override { return "shared_attention"; }
  Json fields() const override { return write_fields(heads_); }
  void check(const ModelFrame& frame, const std::string& where) const override { check_heads(heads_, frame, where); }
  std::vector<Parameter> parameters(const ModelFrame& frame) const override {
    std::vector<Parameter> all;
    add_projection(all, "v_proj", heads_.kv_heads * heads_.head_dim, frame.hidden, heads_.value_bias,
                   Tap::kAttentionInput);
    add_projection(all, "o_proj", frame.hidden, heads_.heads * heads_.head_dim, heads_.output_bias,
                   Tap::kAttentionContext, ParameterRole::kResidual);
    return all;
  }
  std::optional<HeadFields> heads() const override { return heads_; }
  std::vector<StreamShape> streams() const override { return {{"value", heads_.kv_heads, heads_.head_dim}}; }
  std::vector<std::string> reads() const override { return {kAttentionWeights}; }
  double cached_operations() const override { return 2 * static_cast<double>(heads_.heads * heads_.head_dim); }
  double expanded_operations() const override { return cached_operations(); }
  bool can_be_averaged(const AttentionSpec& other) const override { return *this == other; }
  std::unique_ptr<Attention> build(const ModelFrame& frame, LayerWeights weights) const override;

 private:
  HeadFields heads_;
};

class SharedAttention final : public Attention {
 public:
  SharedAttention(HeadFields heads, Linear value, Linear output)
      : heads_(heads), value_(std::move(value)), output_(std::move(output)) {}

  std::shared_ptr<const AttentionSpec> spec() const override { return std::make_shared<SharedAttentionSpec>(heads_); }

  at::Tensor forward(const at::Tensor& hidden, ForwardContext& context) const override {
    const at::Tensor values = split_heads(value_(hidden), heads_.kv_heads);
    context.show(Tap::kValue, values);
    return attend(values, context);
  }

  at::Tensor forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const override {
    return attend(cache.append(0, split_heads(value_(hidden), heads_.kv_heads)), context);
  }

  void visit_weights(const WeightVisitor& visit) override {
    visit.map("v_proj", value_);
    visit.map("o_proj", output_);
  }

  std::unique_ptr<Attention> clone() const override {
    return std::make_unique<SharedAttention>(heads_, value_.clone(), output_.clone());
  }

 private:
  at::Tensor attend(const at::Tensor& values, const ForwardContext& context) const {
    const auto weights = context.slots.find(kAttentionWeights);
    expects(weights != context.slots.end(), "a layer before this one computes attention weights");
    expects(weights->second.size(1) == heads_.heads, "as many heads as in the layer whose weights are reused");
    context.show(Tap::kAttentionWeights, weights->second);
    const at::Tensor merged = merge_heads(weighted_values(weights->second, values));
    context.show(Tap::kAttentionContext, merged);
    return output_(merged);
  }

  HeadFields heads_;
  Linear value_, output_;
};

std::unique_ptr<Attention> SharedAttentionSpec::build(const ModelFrame&, LayerWeights weights) const {
  return std::make_unique<SharedAttention>(heads_, weights.map("v_proj"), weights.map("o_proj"));
}

const Registration<AttentionSpec, SharedAttentionSpec> kSharedAttention(
    "shared_attention", "values of its own, attention weights of a layer before it: caches values only");

}  // namespace
}  // namespace mla
