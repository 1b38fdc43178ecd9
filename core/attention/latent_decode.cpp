// Latent attention of one new token: W_uk goes into the query and W_uv into the output, the cache is read as it is.
#include <ATen/ATen.h>

#include "core/attention/decode_step.h"
#include "core/attention/latent.h"
#include "core/attention/pieces.h"
#include "core/base/error.h"
#include "core/ops/thin_linear.h"

namespace mla {
namespace {

/// x [batch, heads, in] through the matrix of each KV head, [kv_heads * in, out] or, transposed, [kv_heads * out, in].
at::Tensor through_heads(const at::Tensor& x, const Linear& map, std::int64_t kv_heads, bool transposed) {
  const at::Tensor weight = map.matrix_for(x).contiguous();
  return transposed ? head_products(x, weight, kv_heads) : head_sums(x, weight, kv_heads);
}

}  // namespace

void LatentAttention::prepare_decode(Absorption absorption) {
  absorbing_query_ = absorbing_output_ = {};
  // Small, and read at each step: decoded once.
  const auto decoded = [](const Linear& map) { return map.storage() ? Linear(map.to_dense()) : Linear(); };
  ready_key_up_ = decoded(weights_.key_up);
  ready_value_up_ = decoded(weights_.value_up);
  const std::int64_t heads = heads_.heads, kv_heads = heads_.kv_heads, hidden = frame_.hidden, group = heads_.group(),
                     rope = layout_.rope_width(), content = layout_.content_width;
  const auto once = [&](const Linear& map, std::int64_t head_width, std::int64_t latent_width) {
    if (absorption != Absorption::kAuto) return absorption == Absorption::kOnce;
    // A product would be dense: more to read than the codes that it is made of.
    if (map.storage()) return false;
    return heads * latent_width * hidden < heads * head_width * hidden + kv_heads * head_width * latent_width;
  };
  const auto exact = [](const at::Tensor& tensor) { return tensor.detach().to(at::kDouble); };
  // [kv_heads, 1 or group, a, b] x [kv_heads, group, b, c], in float64: rounded once.
  if (layout_.key_up && content > 0 && !weights_.query_norm.defined() &&
      once(weights_.query, content, layout_.key.width)) {
    const at::ScalarType dtype = weights_.query.scalar_type();
    const at::Tensor up = exact(weights_.key_up.to_dense()).view({kv_heads, 1, content, layout_.key.width});
    const auto absorb = [&](const at::Tensor& rows) {
      const at::Tensor own = exact(rows).view({kv_heads, group, rope + content, -1});
      const at::Tensor absorbed = at::matmul(up.transpose(2, 3), own.narrow(2, rope, content));
      return at::cat({own.narrow(2, 0, rope), absorbed}, 2).reshape({heads * (rope + layout_.key.width), -1}).to(dtype);
    };
    const at::Tensor& bias = weights_.query.bias();
    absorbing_query_ = {absorb(weights_.query.to_dense()), bias.defined() ? absorb(bias).squeeze(1) : bias};
  }
  if (layout_.value_up && once(weights_.output, layout_.value_width, layout_.value.width)) {
    const at::ScalarType dtype = weights_.output.scalar_type();
    const at::Tensor out = exact(weights_.output.to_dense());
    const at::Tensor up =
        exact(weights_.value_up.to_dense()).view({kv_heads, 1, layout_.value_width, layout_.value.width});
    const at::Tensor own = out.view({hidden, kv_heads, group, layout_.value_width}).permute({1, 2, 0, 3});
    const at::Tensor absorbed =
        at::matmul(own, up).permute({2, 0, 1, 3}).reshape({hidden, heads * layout_.value.width}).to(dtype);
    at::Tensor bias = weights_.output.bias();
    if (weights_.value_up.bias().defined()) {
      const at::Tensor of_values = exact(weights_.value_up.bias()).view({kv_heads, 1, layout_.value_width});
      const at::Tensor added = at::mv(out, of_values.expand({-1, group, -1}).reshape({-1}));
      bias = (bias.defined() ? added + bias.detach() : added).to(dtype);
    }
    absorbing_output_ = {absorbed, bias};
  }
}

at::Tensor LatentAttention::output_of(const at::Tensor& context) const {
  if (absorbing_output_.defined()) return absorbing_output_(merge_heads(context));
  at::Tensor heads = context;
  if (layout_.value_up) {
    const Linear& up = ready_value_up_.defined() ? ready_value_up_ : weights_.value_up;
    heads = through_heads(context.squeeze(2), up, heads_.kv_heads, true).unsqueeze(2);
  }
  if (weights_.value_up.bias().defined()) {
    const at::Tensor bias = matching(weights_.value_up.bias(), context).view({heads_.kv_heads, layout_.value_width});
    heads = heads + bias.repeat_interleave(heads_.group(), 0).unsqueeze(1);
  }
  return weights_.output(merge_heads(heads));
}

at::Tensor LatentAttention::decode(const at::Tensor& hidden, const ForwardContext& context, LayerCache& cache) const {
  const bool absorbed_already = absorbing_query_.defined();
  const Projected now = project(hidden, context.rotary, absorbed_already ? absorbing_query_ : weights_.query);
  const std::int64_t kv_heads = heads_.kv_heads, rope = layout_.rope_width();
  const at::Tensor query = now.query.squeeze(2);
  std::vector<std::pair<at::Tensor, DecodeMemory>> queries;
  if (rope > 0) queries.push_back({query.narrow(-1, 0, rope), {0, layout_.rope_heads(), 0, rope}});
  // A key bias adds the same amount to every logit of a query, so softmax does not see it.
  const at::Tensor content = query.narrow(-1, rope, query.size(-1) - rope);
  if (layout_.key_up && content.size(-1) > 0) {
    const Linear& up = ready_key_up_.defined() ? ready_key_up_ : weights_.key_up;
    queries.push_back({absorbed_already ? content : through_heads(content, up, kv_heads, false),
                       {1, 1, layout_.key.begin, layout_.key.width}});
  } else if (content.size(-1) > 0) {
    queries.push_back({content, {1, kv_heads, layout_.key.begin, layout_.content_width}});
  }
  const DecodeMemory values = layout_.value_up ? DecodeMemory{1, 1, layout_.value.begin, layout_.value.width}
                                               : DecodeMemory{1, kv_heads, layout_.value.begin, layout_.value_width};
  DecodeStep step(cache, {now.rope_key, now.latent.unsqueeze(1)});
  return output_of(step.attend(queries, values, scale_, heads_.window));
}

}  // namespace mla
