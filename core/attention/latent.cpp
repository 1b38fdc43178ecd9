#include "core/attention/latent.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/attention/attention_weights.h"
#include "core/attention/decode_step.h"
#include "core/attention/pieces.h"
#include "core/base/error.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rotary_embedding.h"

namespace mla {
namespace {

void expect_rows(const Linear& map, std::int64_t rows, const char* name) {
  expects(map.defined() && map.rows() == rows, cat(name, ": expected ", rows, " rows"));
}

/// An up-projection reads `columns` latent elements, or is the identity on a slice of `rows` elements.
void expect_up(const Linear& up, bool wanted, std::int64_t rows, const LatentSlice& slice, const char* name) {
  expects(up.defined() == wanted, cat(name, ": the layout states whether it is there"));
  if (!wanted) return expects(slice.width == rows, cat(name, ": an identity needs a slice of its size"));
  expects(up.rows() == rows && up.columns() == slice.width, cat(name, ": shape does not fit its slice"));
}

}  // namespace

LatentAttention::LatentAttention(const ModelFrame& frame, HeadFields heads, LatentLayout layout, Weights weights)
    : frame_(frame),
      heads_(heads),
      scale_(softmax_scale(frame, heads)),
      layout_(std::move(layout)),
      weights_(std::move(weights)) {
  const std::int64_t rope_heads = layout_.rope_heads(), rope_width = layout_.rope_width();
  expects(rope_heads == 1 || rope_heads == heads_.kv_heads, "rotated keys: one per KV head, or one for all");
  expect_rows(weights_.query, heads_.heads * (rope_width + layout_.content_width), "q_proj");
  expect_rows(weights_.rope_key, rope_heads * rope_width, "k_rope_proj");
  expect_rows(weights_.down, layout_.latent_width, "kv_down_proj");
  expect_up(weights_.key_up, layout_.key_up, heads_.kv_heads * layout_.content_width, layout_.key, "k_up_proj");
  expect_up(weights_.value_up, layout_.value_up, heads_.kv_heads * layout_.value_width, layout_.value, "v_up_proj");
  expects(!weights_.key_norm.defined() || (!layout_.key_up && rope_heads == heads_.kv_heads),
          "QK-norm needs keys that do not go through a low-rank latent");
  expects(weights_.latent_norm.defined() == layout_.latent_norm, "kv_norm: the layout states whether it is there");
  std::vector<std::int64_t> indices;
  for (const auto& pairs : layout_.kept) {
    expects(pairs.size() == layout_.kept.front().size(), "every rotated key has the same number of pairs");
    same_pairs_ = same_pairs_ && pairs == layout_.kept.front();
    indices.insert(indices.end(), pairs.begin(), pairs.end());
  }
  if (same_pairs_) indices.resize(layout_.kept.front().size());
  pair_index_ = at::tensor(indices, at::kLong).to(weights_.rope_key.device());
}

RotaryTable LatentAttention::gather(const RotaryTable& rotary) const {
  const at::Tensor index = pair_index_.to(rotary.cosine.device());
  RotaryTable kept{rotary.cosine.index_select(1, index), rotary.sine.index_select(1, index)};
  if (same_pairs_) return kept;
  const auto per_head = [&](const at::Tensor& table) {
    return table.view({table.size(0), layout_.rope_heads(), layout_.rope_width() / 2}).transpose(0, 1);
  };
  return {per_head(kept.cosine), per_head(kept.sine)};
}

LatentAttention::Projected LatentAttention::project(const at::Tensor& hidden, const RotaryTable& rotary,
                                                    const Linear& query_map, bool rotate_keys) const {
  const std::int64_t rope = layout_.rope_width(), content = layout_.content_width;
  const std::vector<at::Tensor> projected = project_together({&query_map, &weights_.rope_key, &weights_.down}, hidden);
  at::Tensor query = split_heads(projected[0], heads_.heads);
  at::Tensor rope_key = split_heads(projected[1], layout_.rope_heads());
  at::Tensor latent = projected[2];
  if (weights_.latent_norm.defined())
    latent = rms_norm(latent, matching(weights_.latent_norm, latent), kLatentNormEpsilon);
  if (weights_.query_norm.defined()) {
    // [heads, width] weights are aligned with [batch, heads, length, width].
    const auto norm = [&](const at::Tensor& x, const at::Tensor& weight) {
      return normalised(x, weight.dim() == 2 ? weight.unsqueeze(1) : weight, frame_);
    };
    query = norm(query, weights_.query_norm);
    const at::Tensor keys = norm(at::cat({rope_key, content_keys(latent)}, -1), weights_.key_norm);
    rope_key = keys.narrow(-1, 0, rope);
    const at::Tensor normed = merge_heads(keys.narrow(-1, rope, content));
    const std::int64_t after = layout_.key.begin + layout_.key.width;
    latent = at::cat(
        {latent.narrow(2, 0, layout_.key.begin), normed, latent.narrow(2, after, layout_.latent_width - after)}, 2);
  }
  const RotaryTable kept = gather(rotary);
  return {rotate_rows(query, kept.cosine, kept.sine),
          rotate_keys ? rotate_rows(rope_key, kept.cosine, kept.sine) : rope_key, latent};
}

at::Tensor LatentAttention::content_keys(const at::Tensor& latent) const {
  const at::Tensor slice = latent.narrow(2, layout_.key.begin, layout_.key.width);
  if (layout_.key_up) return split_heads(weights_.key_up(slice), heads_.kv_heads);
  return split_heads(weights_.key_up.bias().defined() ? slice + matching(weights_.key_up.bias(), slice) : slice,
                     heads_.kv_heads);
}

at::Tensor LatentAttention::values(const at::Tensor& latent) const {
  const at::Tensor slice = latent.narrow(2, layout_.value.begin, layout_.value.width);
  if (layout_.value_up) return split_heads(weights_.value_up(slice), heads_.kv_heads);
  return split_heads(weights_.value_up.bias().defined() ? slice + matching(weights_.value_up.bias(), slice) : slice,
                     heads_.kv_heads);
}

at::Tensor LatentAttention::keys_of(const at::Tensor& rope_key, const at::Tensor& latent) const {
  // With QK-norm the cached keys are already biased and normalised.
  const at::Tensor content = weights_.key_norm.defined()
                                 ? split_heads(latent.narrow(2, layout_.key.begin, layout_.key.width), heads_.kv_heads)
                                 : content_keys(latent);
  return at::cat({rope_key.expand({-1, heads_.kv_heads, -1, -1}), content}, -1);
}

at::Tensor LatentAttention::attend_absorbed(const Projected& now, const at::Tensor& rope_key, const at::Tensor& latent,
                                            const std::vector<std::int64_t>& before) const {
  const std::int64_t batch = latent.size(0), keys = latent.size(1), queries = now.query.size(2);
  const std::int64_t heads = heads_.heads, kv_heads = heads_.kv_heads, rows = heads_.group() * queries;
  const at::Tensor key_part = latent.narrow(2, layout_.key.begin, layout_.key.width);
  const at::Tensor value_part = latent.narrow(2, layout_.value.begin, layout_.value.width);

  const std::int64_t rope_heads = layout_.rope_heads(), rope_rows = heads / rope_heads * queries;
  const at::Tensor query_rope = now.query.narrow(-1, 0, layout_.rope_width());
  at::Tensor scores =
      at::matmul(query_rope.reshape({batch, rope_heads, rope_rows, layout_.rope_width()}), rope_key.transpose(2, 3))
          .view({batch, heads, queries, keys});
  // A key bias adds the same amount to every logit of a query, so softmax does not see it.
  const at::Tensor query_content = now.query.narrow(-1, layout_.rope_width(), layout_.content_width);
  const at::Tensor content = query_content.reshape({batch, kv_heads, rows, layout_.content_width});
  if (layout_.key_up) {
    const at::Tensor up = weights_.key_up.matrix_for(latent).view({kv_heads, layout_.content_width, layout_.key.width});
    const at::Tensor absorbed = at::matmul(content, up).view({batch, heads * queries, layout_.key.width});
    scores = scores + at::matmul(absorbed, key_part.transpose(1, 2)).view({batch, heads, queries, keys});
  } else {
    scores = scores +
             at::matmul(content, split_heads(key_part, kv_heads).transpose(2, 3)).view({batch, heads, queries, keys});
  }
  scores = scores * scale_;
  if (const at::Tensor mask = causal_mask(queries, keys, heads_.window, latent.device(), before); mask.defined()) {
    scores = scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity());
  }
  const at::Tensor weights = scores.softmax(-1);

  at::Tensor context;  // [batch, kv_heads, rows, value_width]
  if (layout_.value_up) {
    const at::Tensor up =
        weights_.value_up.matrix_for(latent).view({kv_heads, layout_.value_width, layout_.value.width});
    const at::Tensor latents = at::matmul(weights.view({batch, heads * queries, keys}), value_part);
    context = at::matmul(latents.view({batch, kv_heads, rows, layout_.value.width}), up.transpose(1, 2));
  } else {
    context = at::matmul(weights.view({batch, kv_heads, rows, keys}), split_heads(value_part, kv_heads));
  }
  if (weights_.value_up.bias().defined()) {
    context = context + matching(weights_.value_up.bias(), latent).view({kv_heads, 1, layout_.value_width});
  }
  return context.reshape({batch, heads, queries, layout_.value_width});
}

bool LatentAttention::absorbing_is_cheaper(std::int64_t queries, std::int64_t keys) const {
  const auto cost = [](std::int64_t a, std::int64_t b, std::int64_t c) {
    return static_cast<double>(a) * static_cast<double>(b) * static_cast<double>(c);
  };
  const std::int64_t kv_heads = heads_.kv_heads, heads = heads_.heads;
  const std::int64_t key_rank = layout_.key_up ? layout_.key.width : 0;
  const std::int64_t value_rank = layout_.value_up ? layout_.value.width : 0;
  const std::int64_t key_width = key_rank ? layout_.key.width : layout_.content_width;
  const std::int64_t value_width = value_rank ? layout_.value.width : layout_.value_width;
  const double expanded = cost(keys, kv_heads, key_rank * layout_.content_width + value_rank * layout_.value_width) +
                          cost(queries * heads, keys, layout_.content_width + layout_.value_width);
  // Without the decode kernel, which takes one query, logits are written and read several times over.
  const std::int64_t passes = queries > 1 ? 256 : 0;
  const double absorbed = cost(queries, heads, key_rank * layout_.content_width + value_rank * layout_.value_width) +
                          cost(queries * heads, keys, key_width + value_width + passes);
  return absorbed < expanded;
}

at::Tensor LatentAttention::finish(const at::Tensor& context_heads, const ForwardContext& context) const {
  const at::Tensor merged = merge_heads(context_heads);
  context.show(Tap::kAttentionContext, merged);
  return weights_.output(merged);
}

at::Tensor LatentAttention::forward(const at::Tensor& hidden, ForwardContext& context) const {
  const Projected now = project(hidden, context.rotary, weights_.query);
  const at::Tensor keys = keys_of(now.rope_key, now.latent), rebuilt = values(now.latent);
  context.show(Tap::kLatent, now.latent);
  context.show(Tap::kQueryRotated, now.query);
  context.show(Tap::kKeyRotated, keys);
  context.show(Tap::kValue, rebuilt);
  if (context.needs_attention_weights())
    return finish(attend_by_weights(now.query, keys, rebuilt, scale_, heads_.window, context), context);
  return finish(causal_attention(now.query, keys, rebuilt, scale_, heads_.window, context.documents), context);
}

at::Tensor LatentAttention::forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const {
  const bool rotates_later = cache.before_rotation(0), hands_on = context.needs_attention_weights();
  const std::vector<std::int64_t>& before = context.before;
  const std::int64_t queries = hidden.size(1), keys = *std::max_element(before.begin(), before.end()) + queries;
  const bool absorb = !hands_on && (context.path == DecodePath::kAbsorbed ||
                                    (context.path == DecodePath::kAuto && absorbing_is_cheaper(queries, keys)));
  if (absorb && !rotates_later && decode_serves(hidden, cache)) return decode(hidden, context, cache);
  const Projected now = project(hidden, context.rotary, weights_.query, !rotates_later);
  at::Tensor rope_key = cache.append(0, now.rope_key);
  if (rotates_later) {
    const RotaryTable kept = gather(context.history);
    rope_key = rotate_heads(rope_key, kept.cosine, kept.sine);
  }
  const at::Tensor latent = cache.append(1, now.latent.unsqueeze(1)).squeeze(1);
  if (absorb) return finish(attend_absorbed(now, rope_key, latent, before), context);
  const at::Tensor all_keys = keys_of(rope_key, latent);
  if (hands_on)
    return finish(attend_by_weights(now.query, all_keys, values(latent), scale_, heads_.window, context), context);
  return finish(cached_attention(now.query, all_keys, values(latent), scale_, heads_.window, before), context);
}

void LatentAttention::visit_weights(const WeightVisitor& visit) {
  visit.map("q_proj", weights_.query);
  visit.map("k_rope_proj", weights_.rope_key);
  visit.map("kv_down_proj", weights_.down);
  visit.map("k_up_proj", weights_.key_up);
  visit.map("v_up_proj", weights_.value_up);
  visit.map("o_proj", weights_.output);
  if (weights_.query_norm.defined()) visit.tensor("q_norm.weight", weights_.query_norm);
  if (weights_.key_norm.defined()) visit.tensor("k_norm.weight", weights_.key_norm);
  if (weights_.latent_norm.defined()) visit.tensor("kv_norm.weight", weights_.latent_norm);
  pair_index_ = pair_index_.to(weights_.rope_key.device());  // they may have been moved
}

std::unique_ptr<Attention> LatentAttention::clone() const {
  const auto copy = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.detach().clone() : tensor; };
  return std::make_unique<LatentAttention>(
      frame_, heads_, layout_,
      Weights{weights_.query.clone(), weights_.rope_key.clone(), weights_.down.clone(), weights_.key_up.clone(),
              weights_.value_up.clone(), weights_.output.clone(), copy(weights_.query_norm), copy(weights_.key_norm),
              copy(weights_.latent_norm)});
}

std::shared_ptr<const AttentionSpec> LatentAttention::spec() const {
  return std::make_shared<LatentSpec>(LatentSpec::Options{layout_, heads_});
}

const LatentAttention* as_latent(const Attention& attention) {
  return dynamic_cast<const LatentAttention*>(&attention);
}

}  // namespace mla
