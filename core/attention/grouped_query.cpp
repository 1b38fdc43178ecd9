#include "core/attention/grouped_query.h"

#include <ATen/ATen.h>

#include "core/attention/attention_weights.h"
#include "core/attention/decode_step.h"
#include "core/attention/pieces.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/rotary_embedding.h"

namespace mla {

Json GroupedQuerySpec::fields() const { return write_fields(heads_); }

void GroupedQuerySpec::check(const ModelFrame& frame, const std::string& where) const {
  check_heads(heads_, frame, where);
  if (heads_.head_dim != frame.rope_dim) {
    throw ConfigError(cat(where, ".head_dim = ", heads_.head_dim,
                          ": all of it is rotated, and the model's frequencies are "
                          "those of width ",
                          frame.rope_dim));
  }
}

std::vector<Parameter> GroupedQuerySpec::parameters(const ModelFrame& frame) const {
  const std::int64_t query_rows = heads_.heads * heads_.head_dim, key_rows = heads_.kv_heads * heads_.head_dim;
  std::vector<Parameter> all;
  add_projection(all, "q_proj", query_rows, frame.hidden, heads_.query_bias, Tap::kAttentionInput);
  add_projection(all, "k_proj", key_rows, frame.hidden, heads_.key_bias, Tap::kAttentionInput);
  add_projection(all, "v_proj", key_rows, frame.hidden, heads_.value_bias, Tap::kAttentionInput);
  add_projection(all, "o_proj", frame.hidden, query_rows, heads_.output_bias, Tap::kAttentionContext,
                 ParameterRole::kResidual);
  if (heads_.qk_norm) {
    const bool whole = heads_.qk_norm_whole;
    all.push_back({"q_norm.weight", {whole ? query_rows : heads_.head_dim}, ParameterRole::kNorm, {}});
    all.push_back({"k_norm.weight", {whole ? key_rows : heads_.head_dim}, ParameterRole::kNorm, {}});
  }
  return all;
}

std::vector<StreamShape> GroupedQuerySpec::streams() const {
  return {{"key", heads_.kv_heads, heads_.head_dim}, {"value", heads_.kv_heads, heads_.head_dim}};
}

double GroupedQuerySpec::expanded_operations() const { return 4 * static_cast<double>(heads_.heads * heads_.head_dim); }

std::unique_ptr<Attention> GroupedQuerySpec::build(const ModelFrame& frame, LayerWeights weights) const {
  GroupedQueryAttention::Weights parts{weights.map("q_proj"),           weights.map("k_proj"),
                                       weights.map("v_proj"),           weights.map("o_proj"),
                                       weights.tensor("q_norm.weight"), weights.tensor("k_norm.weight")};
  return std::make_unique<GroupedQueryAttention>(frame, heads_, std::move(parts));
}

GroupedQueryAttention::GroupedQueryAttention(const ModelFrame& frame, HeadFields heads, Weights weights)
    : frame_(frame), heads_(heads), scale_(softmax_scale(frame, heads)), weights_(std::move(weights)) {
  expects(heads_.kv_heads > 0 && heads_.heads % heads_.kv_heads == 0, "heads must be a multiple of kv_heads");
}

std::shared_ptr<const AttentionSpec> GroupedQueryAttention::spec() const {
  return std::make_shared<GroupedQuerySpec>(heads_);
}

GroupedQueryAttention::Heads GroupedQueryAttention::project(const at::Tensor& hidden) const {
  std::vector<at::Tensor> projected = project_together({&weights_.query, &weights_.key, &weights_.value}, hidden);
  if (heads_.qk_norm_whole) {
    projected[0] = normalised(projected[0], weights_.query_norm, frame_);
    projected[1] = normalised(projected[1], weights_.key_norm, frame_);
  }
  Heads heads{split_heads(projected[0], heads_.heads), split_heads(projected[1], heads_.kv_heads),
              split_heads(projected[2], heads_.kv_heads)};
  if (heads_.qk_norm && !heads_.qk_norm_whole) {
    heads.query = normalised(heads.query, weights_.query_norm, frame_);
    heads.key = normalised(heads.key, weights_.key_norm, frame_);
  }
  return heads;
}

at::Tensor GroupedQueryAttention::finish(const at::Tensor& context_heads, const ForwardContext& context) const {
  const at::Tensor merged = merge_heads(context_heads);
  context.show(Tap::kAttentionContext, merged);
  return weights_.output(merged);
}

at::Tensor GroupedQueryAttention::forward(const at::Tensor& hidden, ForwardContext& context) const {
  const Heads heads = project(hidden);
  context.show(Tap::kQuery, heads.query);
  context.show(Tap::kKey, heads.key);
  context.show(Tap::kValue, heads.value);
  const at::Tensor query = rotate_heads(heads.query, context.rotary.cosine, context.rotary.sine);
  const at::Tensor key = rotate_heads(heads.key, context.rotary.cosine, context.rotary.sine);
  context.show(Tap::kQueryRotated, query);
  context.show(Tap::kKeyRotated, key);
  if (heads_.soft_cap > 0 || context.needs_attention_weights())
    return finish(attend_by_weights(query, key, heads.value, scale_, heads_.window, context, heads_.soft_cap), context);
  return finish(causal_attention(query, key, heads.value, scale_, heads_.window, context.documents), context);
}

at::Tensor GroupedQueryAttention::forward_cached(const at::Tensor& hidden, ForwardContext& context,
                                                 LayerCache& cache) const {
  const Heads heads = project(hidden);
  const at::Tensor query = rotate_rows(heads.query, context.rotary.cosine, context.rotary.sine);
  const bool rotates_later = cache.before_rotation(0);
  const at::Tensor new_key =
      rotates_later ? heads.key : rotate_rows(heads.key, context.rotary.cosine, context.rotary.sine);
  const bool by_weights = heads_.soft_cap > 0 || context.needs_attention_weights();
  if (!rotates_later && !by_weights && decode_serves(hidden, cache)) {
    const DecodeMemory keys{0, heads_.kv_heads, 0, heads_.head_dim}, values{1, heads_.kv_heads, 0, heads_.head_dim};
    DecodeStep decode(cache, {new_key, heads.value});
    return finish(decode.attend({{query.squeeze(2), keys}}, values, scale_, heads_.window), context);
  }
  at::Tensor key = cache.append(0, new_key);
  if (rotates_later) key = rotate_heads(key, context.history.cosine, context.history.sine);
  const at::Tensor value = cache.append(1, heads.value);
  if (by_weights)
    return finish(attend_by_weights(query, key, value, scale_, heads_.window, context, heads_.soft_cap), context);
  return finish(cached_attention(query, key, value, scale_, heads_.window, context.before), context);
}

void GroupedQueryAttention::visit_weights(const WeightVisitor& visit) {
  visit.map("q_proj", weights_.query);
  visit.map("k_proj", weights_.key);
  visit.map("v_proj", weights_.value);
  visit.map("o_proj", weights_.output);
  if (weights_.query_norm.defined()) visit.tensor("q_norm.weight", weights_.query_norm);
  if (weights_.key_norm.defined()) visit.tensor("k_norm.weight", weights_.key_norm);
}

std::unique_ptr<Attention> GroupedQueryAttention::clone() const {
  const auto copy = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.detach().clone() : tensor; };
  return std::make_unique<GroupedQueryAttention>(
      frame_, heads_,
      Weights{weights_.query.clone(), weights_.key.clone(), weights_.value.clone(), weights_.output.clone(),
              copy(weights_.query_norm), copy(weights_.key_norm)});
}

const GroupedQueryAttention* as_grouped_query(const Attention& attention) {
  return dynamic_cast<const GroupedQueryAttention*>(&attention);
}

std::optional<HeadFields> grouped_query_heads(const AttentionSpec& spec) {
  const auto* grouped = dynamic_cast<const GroupedQuerySpec*>(&spec);
  return grouped ? grouped->heads() : std::nullopt;
}

namespace {
const Registration<AttentionSpec, GroupedQuerySpec> kGroupedQuery(
    "grouped_query", "multi-head and grouped-query attention: caches rotated keys and values");
}  // namespace

}  // namespace mla
