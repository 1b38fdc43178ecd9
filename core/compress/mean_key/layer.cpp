#include "core/compress/mean_key/layer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/base/fields.h"

namespace mla {
namespace {

using NewMaps = std::map<std::string, std::pair<at::Tensor, at::Tensor>>;

HeadFields converted_heads(const HeadFields& source, bool servable) {
  HeadFields heads = source;
  heads.key_bias = heads.value_bias = false;
  heads.output_bias = source.output_bias || !servable;
  return heads;
}

/// A low-rank latent beside one rotated key for all heads: as DeepSeek-V2 has it.
LatentLayout servable_layout(const HeadFields& heads, const MeanKeyShape& shape) {
  LatentLayout layout;
  layout.kept = {shape.slots};
  layout.content_width = layout.value_width = heads.head_dim;
  layout.latent_width = shape.latent;
  layout.key = layout.value = {0, shape.latent};
  return layout;
}

/// What asks with queries as the source has them, by head: [heads, key_width, head_dim].
at::Tensor query_maps(const MeanKeyShape& shape, const MeanKeyMaps& maps, const HeadFields& heads) {
  std::vector<at::Tensor> rows = {maps.slot_queries};
  if (shape.position) rows.push_back(maps.position_queries);
  rows.push_back(at::matmul(maps.key_up.transpose(1, 2).repeat_interleave(heads.group(), 0), maps.gains));
  return at::cat(rows, 1);
}

void add_servable_maps(NewMaps& changed, const GroupedQueryAttention& source, const MeanKeyMaps& maps) {
  const HeadFields& heads = source.heads();
  const at::Tensor asked = at::cat({maps.slot_queries, maps.gains}, 1);  // [heads, 2 M + head_dim, head_dim]
  const Linear& query = source.weights().query;
  const auto absorbed = [&](const at::Tensor& rows) {
    const at::Tensor by_head = rows.detach().to(at::kCPU, at::kDouble).view({heads.heads, heads.head_dim, -1});
    return at::matmul(asked, by_head).flatten(0, 1);
  };
  changed["q_proj"] = {absorbed(query.to_dense()),
                       query.bias().defined() ? absorbed(query.bias()).flatten() : at::Tensor()};
  changed["k_rope_proj"] = {maps.slot_down, {}};
  changed["kv_down_proj"] = {maps.latent_down, {}};
  changed["k_up_proj"] = {maps.key_up.flatten(0, 1), {}};
  changed["v_up_proj"] = {maps.value_up.flatten(0, 1), {}};
}

at::Tensor behind_first(const at::Tensor& x) { return x.narrow(1, 1, x.size(1) - 1).flatten(0, 1).to(at::kDouble); }

}  // namespace

std::shared_ptr<const AttentionSpec> mean_key_spec(const HeadFields& source, const MeanKeyShape& shape) {
  const HeadFields heads = converted_heads(source, shape.servable);
  if (shape.servable) return std::make_shared<LatentSpec>(LatentSpec::Options{servable_layout(heads, shape), heads});
  Json fields = write_fields(heads);
  fields["latent_width"] = shape.latent;
  fields["slots"] = shape.slots;
  fields["layout"] = shape.dual ? "dual" : "std";
  fields["position"] = shape.position;
  return attention_of_kind("mkla", fields);
}

std::unique_ptr<Attention> mean_key_attention(GroupedQueryAttention& source, const MeanKeyShape& shape,
                                              const MeanKeyMaps& maps, std::optional<at::ScalarType> weights) {
  NewMaps changed;
  if (shape.servable) {
    add_servable_maps(changed, source, maps);
  } else {
    const Linear& output = source.weights().output;
    const at::Tensor bias = output.bias();
    changed["q_up_proj"] = {query_maps(shape, maps, source.heads()).flatten(0, 1), {}};
    changed["kv_down_proj"] = {at::cat({maps.latent_down, maps.slot_down}), maps.down_bias};
    changed["v_up_proj"] = {maps.value_up.flatten(0, 1), {}};
    changed["o_proj"] = {output.to_dense(),
                         bias.defined() ? bias.to(at::kCPU, at::kDouble) + maps.output_bias : maps.output_bias};
  }
  return rebuild_attention(*mean_key_spec(source.heads(), shape), source.frame(), source, changed, weights);
}

void LayerSample::see(Tap tap, const at::Tensor& tensor) {
  const std::int64_t taken = std::min(left_, tensor.size(0));
  if (taken == 0 || tensor.size(1) < 2) return;
  const at::Tensor kept = tensor.narrow(0, 0, taken);
  if (tap == Tap::kLayerInput) streams_.push_back(kept);
  if (tap == Tap::kAttentionInput) inputs_.push_back(kept);
  if (tap != Tap::kAttentionOutput) return;
  outputs_.push_back(kept);
  left_ -= taken;
}

LayerSample::Error LayerSample::error(const Attention& attention, const Decoder& decoder) const {
  expects(!outputs_.empty(), "a sample holds a row of two tokens");
  std::vector<at::Tensor> all, norms;
  double different = 0;
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    ForwardContext context = decoder.context(inputs_[i].size(1));
    context.turn(rope_use(*attention.spec()));
    const at::Tensor found = attention.forward(inputs_[i], context);
    all.push_back(behind_first(outputs_[i]));
    norms.push_back(behind_first(streams_[i]).square().sum(1));
    different += (behind_first(found) - all.back()).square().sum().item<double>();
  }
  const at::Tensor wanted = at::cat(all);
  const double variance = (wanted - wanted.mean(0, true)).square().sum().item<double>();
  const double median = at::cat(norms).median().item<double>(), tokens = static_cast<double>(wanted.size(0));
  return {variance > 0 ? different / variance : 0, median > 0 ? different / tokens / median : 0};
}

}  // namespace mla
