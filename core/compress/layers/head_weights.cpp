#include "core/compress/layers/head_weights.h"

#include <ATen/ATen.h>

#include <utility>

#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {

namespace {

at::Tensor in_double(const at::Tensor& tensor) { return tensor.defined() ? tensor.detach().to(at::kDouble) : tensor; }

}  // namespace

HeadWeights head_weights(const GroupedQueryAttention& attention) {
  const GroupedQueryAttention::Weights& weights = attention.weights();
  return {in_double(weights.key.to_dense()), in_double(weights.value.to_dense()),  in_double(weights.key.bias()),
          in_double(weights.value.bias()),   in_double(weights.output.to_dense()), in_double(weights.query.to_dense()),
          in_double(weights.query.bias())};
}

HeadFields heads_to_convert(const ModelSpec& spec, std::int64_t layer, const std::string& path) {
  const std::string where = cat(path, ": layer ", layer);
  const std::optional<HeadFields> heads = grouped_query_heads(spec.attention(layer));
  if (!heads) {
    throw ConfigError(cat(where, " is of kind ", spec.attention(layer).kind(),
                          "; expected grouped_query: this conversion comes before other ones"));
  }
  if (const std::string reason = only_grouped_query(*heads); !reason.empty())
    throw ConfigError(cat(where, ": ", spec.family, ": ", reason));
  if (heads->qk_norm) {
    throw ConfigError(
        cat(where, ": ", spec.family, " normalises its keys (QK-norm), which is not linear in the ",
            "hidden state, so that keys cannot be rebuilt, or mixed over heads; list fold_qk_norm before"));
  }
  expect_dense(spec, layer, "self_attn.", where);
  return *heads;
}

ModelSpec plan_each_layer(const ModelSpec& spec, const std::string& path, const MadeAttention& made) {
  ModelSpec planned = spec;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    const HeadFields heads = heads_to_convert(spec, layer, path);
    planned.layers[static_cast<std::size_t>(layer)].attention = made(layer, heads);
  }
  check_spec(planned, cat(path, ": the model's layers"));
  return planned;
}

at::Tensor absorb_directions(const at::Tensor& output, const at::Tensor& directions, const HeadFields& heads) {
  const at::Tensor by_head = output.view({output.size(0), heads.kv_heads, heads.group(), heads.head_dim});
  const at::Tensor maps = directions.view({heads.kv_heads, heads.head_dim, directions.size(1)});
  return at::einsum("okgd,kdw->okgw", {by_head, maps}).reshape({output.size(0), heads.heads * directions.size(1)});
}

std::shared_ptr<const AttentionSpec> attention_of_kind(const char* kind, Json fields) {
  fields["name"] = kind;
  return Registry<AttentionSpec>::instance().make(fields, kind);
}

std::unique_ptr<Attention> rebuild_attention(const AttentionSpec& spec, const ModelFrame& frame, Attention& source,
                                             const std::map<std::string, std::pair<at::Tensor, at::Tensor>>& changed,
                                             std::optional<at::ScalarType> weights) {
  LayerWeights parts;
  at::ScalarType type = at::kFloat;
  at::Device device = at::kCPU;
  source.visit_weights({[&](const std::string& name, Linear& map) {
                          if (name == "k_proj") {
                            type = weights.value_or(map.scalar_type());
                            device = map.device();
                          }
                          if (!changed.contains(name)) parts.add(name, map);
                        },
                        [&](const std::string& name, at::Tensor& tensor) { parts.add(name, tensor); }});
  const auto stored = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(device, type).contiguous() : tensor;
  };
  for (const auto& [name, map] : changed) parts.add(name, Linear(stored(map.first), stored(map.second)));
  return spec.build(frame, std::move(parts));
}

}  // namespace mla
