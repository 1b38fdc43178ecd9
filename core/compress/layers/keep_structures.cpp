#include "core/compress/layers/keep_structures.h"

#include <ATen/ATen.h>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/model/checkpoint.h"

namespace mla {
namespace {

/// Of a tensor some rows or columns.
struct TensorPart {
  std::int64_t dim = 0;
  at::Tensor index;
};

/// The rows of some parts of a matrix that has `width` rows of each.
at::Tensor rows_of_parts(const std::vector<std::int64_t>& parts, std::int64_t width) {
  return (at::tensor(parts, at::kLong).unsqueeze(1) * width + at::arange(width, at::kLong)).flatten();
}

/// By name what is left of a layer's tensors that lose something.
void add_parts(std::map<std::string, TensorPart>& parts, const std::string& prefix, const LayerSpec& layer,
               const KeptStructures& kept) {
  if (!kept.kv_heads.empty()) {
    const HeadFields heads = *grouped_query_heads(*layer.attention);
    const at::Tensor keys = rows_of_parts(kept.kv_heads, heads.head_dim),
                     queries = rows_of_parts(kept.kv_heads, heads.group() * heads.head_dim);
    for (const char* kind : {".weight", ".bias"}) {
      parts[cat(prefix, "self_attn.q_proj", kind)] = {0, queries};
      for (const char* map : {"k_proj", "v_proj"}) parts[cat(prefix, "self_attn.", map, kind)] = {0, keys};
    }
    parts[prefix + "self_attn.o_proj.weight"] = {1, queries};
  }
  if (!kept.channels.empty()) {
    const at::Tensor channels = at::tensor(kept.channels, at::kLong);
    for (const char* map : {"mlp.gate_proj.weight", "mlp.gate_proj.bias", "mlp.up_proj.weight", "mlp.up_proj.bias"})
      parts[prefix + map] = {0, channels};
    parts[prefix + "mlp.down_proj.weight"] = {1, channels};
  }
}

}  // namespace

LayerSpec with_structures(const LayerSpec& layer, std::int64_t kv_heads, std::int64_t channels) {
  LayerSpec kept = layer;
  if (std::optional<HeadFields> heads = grouped_query_heads(*layer.attention); heads && heads->kv_heads != kv_heads) {
    heads->heads = kv_heads * heads->group();
    heads->kv_heads = kv_heads;
    kept.attention = std::make_shared<GroupedQuerySpec>(*heads);
  }
  kept.feed_forward.width = channels;
  return kept;
}

Decoder keep_structures(const Decoder& decoder, const std::vector<KeptStructures>& kept) {
  ModelSpec spec = decoder.spec();
  expects(kept.size() == spec.layers.size(), "what is kept of each layer");
  std::map<std::string, TensorPart> parts;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    LayerSpec& layer = spec.layers[i];
    add_parts(parts, cat("model.layers.", i, "."), layer, kept[i]);
    const auto left = [](const std::vector<std::int64_t>& some, std::int64_t all) {
      return some.empty() ? all : std::ssize(some);
    };
    layer = with_structures(layer, left(kept[i].kv_heads, layer.attention->heads().value_or(HeadFields{}).kv_heads),
                            left(kept[i].channels, layer.feed_forward.width));
  }
  WeightMap weights;
  // Visiting hands out references for replacement; nothing is replaced.
  const_cast<Decoder&>(decoder).visit_stored([&](const std::string& name, at::Tensor& tensor) {
    const auto part = parts.find(name);
    weights[name] = part == parts.end()
                        ? tensor.detach()
                        : tensor.detach().index_select(part->second.dim, part->second.index.to(tensor.device()));
  });
  const Placement placement{decoder.device(), std::nullopt, decoder.compute_dtype, decoder.products};
  Decoder made =
      build_decoder(spec, std::move(weights), "the pruned model", {.placement = placement, .check_finite = false});
  made.checkpoint_activations = decoder.checkpoint_activations;
  return made;
}

}  // namespace mla
