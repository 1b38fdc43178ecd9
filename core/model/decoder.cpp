#include "core/model/decoder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/kv_cache/stream.h"
#include "core/model/weight_keeper.h"
#include "core/ops/checkpoint_block.h"
#include "core/ops/feed_forward.h"
#include "core/ops/soft_cap.h"

namespace mla {
namespace {

at::Tensor feed_forward(const DecoderLayer& layer, Activation activation, const at::Tensor& x,
                        const ForwardContext& context) {
  const auto activated = [&](const at::Tensor& gate) {
    return activation == Activation::kGeluTanh ? at::gelu(gate, "tanh") : at::silu(gate);
  };
  const auto needs_itself = [](const Linear& map) { return map.bias().defined() || map.is_factored(); };
  if (needs_itself(layer.gate) || needs_itself(layer.up) || needs_itself(layer.down) ||
      context.watches(Tap::kFeedForwardInner) || activation != Activation::kSilu) {
    const at::Tensor inner = activated(layer.gate(x)) * layer.up(x);
    context.show(Tap::kFeedForwardInner, inner);
    return layer.down(inner);
  }
  const auto reads_storage = [&](const Linear& map) { return map.multiplies_codes(x) || map.decodes_by_rows(x); };
  if (reads_storage(layer.gate) || reads_storage(layer.up) || reads_storage(layer.down)) {
    const std::vector<at::Tensor> inner = project_together({&layer.gate, &layer.up}, x);
    return layer.down(gated_product(inner[0], inner[1]));
  }
  return mla::feed_forward(x, layer.gate.matrix_for(x), layer.up.matrix_for(x), layer.down.matrix_for(x));
}

/// A block need not have the norm.
at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const ModelFrame& frame) {
  return weight.defined() ? normalised(x, weight, frame) : x;
}

}  // namespace

Decoder::Decoder(ModelSpec spec) {
  set_spec(std::move(spec));
  layers.resize(spec_.layers.size());
}

void Decoder::set_spec(ModelSpec spec) {
  spec_ = std::move(spec);
  rotaries_ = {{RopeUse::kModel, spec_.rotary()}};
  rope_uses_.clear();
  for (const LayerSpec& layer : spec_.layers) {
    rope_uses_.push_back(rope_use(*layer.attention));
    rotaries_.try_emplace(rope_uses_.back(), spec_.rotary(rope_uses_.back()));
  }
  wanted_ = wanted_slots(spec_);
  groups_ = group_boundaries(spec_);
}

at::Tensor Decoder::embed(const at::Tensor& ids) const {
  // Files' ids are checked where they are read; this is the last place at which another one is an error and no crash.
  if (ids.is_cpu() && ids.scalar_type() == at::kLong && ids.is_contiguous()) {
    const std::int64_t *begin = ids.const_data_ptr<std::int64_t>(), *end = begin + ids.numel();
    const std::int64_t* outside =
        std::find_if(begin, end, [&](std::int64_t id) { return id < 0 || id >= embedding.rows(); });
    if (outside != end) {
      throw DataError(cat("token id ", *outside, " is outside the model's vocabulary, 0..", embedding.rows() - 1));
    }
  }
  const at::Tensor rows = embedding.rows_at(ids).to(compute_dtype);
  if (spec_.embedding_scale == 1) return rows;
  // Rounded to the dtype first, as transformers does.
  return rows * at::scalar_tensor(spec_.embedding_scale, at::TensorOptions(compute_dtype));
}

ForwardContext Decoder::context(std::int64_t length, const at::Tensor& documents) const {
  ForwardContext context;
  for (const auto& [use, rotary] : rotaries_) context.tables[use].rotary = rotary.table(0, length, length, options());
  context.turn(RopeUse::kModel);
  context.documents = documents;
  return context;
}

void Decoder::enter(std::size_t layer, ForwardContext& context) const {
  context.layer = static_cast<std::int64_t>(layer);
  context.wanted = wanted_[layer];
  context.turn(rope_uses_[layer]);
}

at::Tensor Decoder::attention_step(const DecoderLayer& layer, const at::Tensor& x, const at::Tensor& attention) const {
  return x + norm(attention, layer.attention_end_norm, spec_);
}

at::Tensor Decoder::feed_forward_step(std::size_t index, const at::Tensor& attended,
                                      const ForwardContext& context) const {
  const DecoderLayer& layer = layers[index];
  const at::Tensor inner = norm(attended, layer.mlp_norm, spec_);
  context.show(Tap::kFeedForwardInput, inner);
  const at::Tensor fed = feed_forward(layer, spec_.layers[index].feed_forward.activation, inner, context);
  context.show(Tap::kFeedForwardOutput, fed);
  return attended + norm(fed, layer.mlp_end_norm, spec_);
}

at::Tensor Decoder::attention_half(std::size_t index, const at::Tensor& x, ForwardContext& context) const {
  const ProductsScope scope(products);
  const DecoderLayer& layer = layers.at(index);
  enter(index, context);
  context.show(Tap::kLayerInput, x);
  const at::Tensor input = norm(x, layer.attention_norm, spec_);
  context.show(Tap::kAttentionInput, input);
  at::Tensor attention = layer.attention->forward(input, context);
  context.show(Tap::kAttentionOutput, attention);
  return attention;
}

at::Tensor Decoder::feed_forward_half(std::size_t index, const at::Tensor& x, const at::Tensor& attention,
                                      const ForwardContext& context) const {
  const ProductsScope scope(products);
  at::Tensor left = feed_forward_step(index, attention_step(layers.at(index), x, attention), context);
  context.show(Tap::kLayerOutput, left);
  return left;
}

at::Tensor Decoder::apply_layer(std::size_t index, const at::Tensor& x, ForwardContext& context) const {
  return feed_forward_half(index, x, attention_half(index, x, context), context);
}

at::Tensor Decoder::through_group(std::size_t begin, std::size_t end, at::Tensor x, ForwardContext& context) const {
  for (std::size_t i = begin; i < end; ++i) x = apply_layer(i, x, context);
  context.slots.clear();
  return x;
}

at::Tensor Decoder::hidden_states(const at::Tensor& ids, const at::Tensor& documents) const {
  at::Tensor x = embed(ids);
  ForwardContext surroundings = context(ids.size(1), documents);
  const bool checkpointed = checkpoint_activations && at::GradMode::is_enabled();
  // A layer's parameters may be trained below an embedding that is not.
  if (checkpointed && !x.requires_grad()) x = x.detach().requires_grad_(true);
  for (std::size_t g = 0; g + 1 < groups_.size(); ++g) {
    const std::size_t begin = groups_[g], end = groups_[g + 1];
    if (!checkpointed) {
      x = through_group(begin, end, x, surroundings);
      continue;
    }
    // What layers hand on to each other is computed again with them.
    const auto block = [=, this](const at::Tensor& input) {
      ForwardContext again = surroundings;
      return through_group(begin, end, input, again);
    };
    if (WeightKeeper* keeper = weight_keeper(); keeper != nullptr) {
      x = checkpoint_block(x, block, [=] { return keeper->bring(begin, end); });
    } else {
      x = checkpoint_block(x, block);
    }
  }
  return final_states(x);
}

at::Tensor Decoder::final_states(const at::Tensor& x) const { return norm(x, final_norm, spec_); }

at::Tensor Decoder::observe(const at::Tensor& ids, const Observer& observer) const {
  ForwardContext surroundings = context(ids.size(1));
  surroundings.observer = &observer;
  at::Tensor x = embed(ids);
  if (at::GradMode::is_enabled() && !x.requires_grad()) x = x.detach().requires_grad_(true);
  for (std::size_t g = 0; g + 1 < groups_.size(); ++g) x = through_group(groups_[g], groups_[g + 1], x, surroundings);
  x = final_states(x);
  surroundings.layer = spec_.layer_count();
  surroundings.show(Tap::kFinalState, x);
  return x;
}

void Decoder::replace_attention(std::size_t index, std::unique_ptr<Attention> attention) {
  ModelSpec spec = spec_;
  LayerSpec& layer = spec.layers.at(index);
  layer.attention = attention->spec();
  std::erase_if(layer.storage, [](const auto& entry) { return entry.first.starts_with("self_attn."); });
  attention->visit_weights({[&](const std::string& name, const Linear& map) {
                              if (map.storage()) layer.storage["self_attn." + name] = {map.storage()};
                            },
                            [](const std::string&, const at::Tensor&) {}});
  layers.at(index).attention = std::move(attention);
  set_spec(std::move(spec));
}

void Decoder::replace_maps(const std::function<void(const std::string& name, Linear& map)>& replace) {
  ModelSpec spec = spec_;
  visit_weights({[&](const std::string& name, Linear& map) {
                   replace(name, map);
                   if (map.defined()) set_storage(spec, name, map.storage());
                 },
                 [](const std::string&, const at::Tensor&) {}});
  set_spec(std::move(spec));
}

void Decoder::remove_layers(const std::vector<std::size_t>& removed) {
  ModelSpec spec = spec_;
  spec.layers.clear();
  std::vector<DecoderLayer> kept;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (std::find(removed.begin(), removed.end(), i) != removed.end()) continue;
    kept.push_back(std::move(layers[i]));
    spec.layers.push_back(spec_.layers[i]);
  }
  layers = std::move(kept);
  set_spec(std::move(spec));
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  const ProductsScope scope(products);
  const at::Tensor logits = output_map()(hidden);
  return spec_.logit_cap > 0 ? soft_capped(logits, spec_.logit_cap) : logits;
}

at::Tensor Decoder::forward(const at::Tensor& ids) const { return logits(hidden_states(ids)); }

at::Tensor Decoder::forward_cached(const at::Tensor& ids, DecoderCache& cache, DecodePath path,
                                   const std::vector<std::int64_t>& counts) const {
  const at::Tensor hidden = hidden_states_cached(ids, cache, path, counts);
  if (counts.empty() || ids.size(1) == 1) return logits(hidden.select(1, ids.size(1) - 1));
  std::vector<std::int64_t> last;
  for (std::size_t row = 0; row < counts.size(); ++row) {
    last.push_back(static_cast<std::int64_t>(row) * ids.size(1) + std::max<std::int64_t>(counts[row] - 1, 0));
  }
  return logits(hidden.flatten(0, 1).index_select(
      0, at::tensor(last, at::kLong).to(at::device(hidden.device()), /*non_blocking=*/true)));
}

at::Tensor Decoder::apply_layer_cached(std::size_t index, const at::Tensor& x, ForwardContext& context,
                                       LayerCache& cache) const {
  const ProductsScope scope(products);
  const DecoderLayer& layer = layers[index];
  enter(index, context);
  at::Tensor attended;
  try {
    attended =
        attention_step(layer, x, layer.attention->forward_cached(norm(x, layer.attention_norm, spec_), context, cache));
  } catch (const DataError& error) {  // a codec met what it cannot hold
    throw DataError(cat("layer ", index, ", ", error.what()));
  }
  return feed_forward_step(index, attended, context);
}

at::Tensor Decoder::hidden_states_cached(const at::Tensor& ids, DecoderCache& cache, DecodePath path,
                                         const std::vector<std::int64_t>& counts) const {
  expects(counts.empty() || *std::max_element(counts.begin(), counts.end()) == ids.size(1),
          "the largest count is the number of tokens given");
  cache.begin_step(counts);
  ForwardContext surroundings;
  surroundings.path = path;
  place(cache, ids.size(1), surroundings);
  at::Tensor x = embed(ids);
  for (std::size_t g = 0; g + 1 < groups_.size(); ++g) {
    for (std::size_t i = groups_[g]; i < groups_[g + 1]; ++i)
      x = apply_layer_cached(i, x, surroundings, cache.layer(i));
    surroundings.slots.clear();
  }
  cache.end_step(ids.size(1));
  return final_states(x);
}

DecoderCache Decoder::make_cache(std::int64_t batch, const CacheFormat& format) const {
  const at::TensorOptions like = options();
  std::vector<LayerCache> caches;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const std::vector<StreamShape> streams = spec_.layers[i].attention->streams();
    std::vector<StreamStorage> storage;
    for (const StreamShape& stream : streams) {
      storage.push_back(format ? format(static_cast<std::int64_t>(i), stream) : StreamStorage{});
    }
    caches.emplace_back(streams, batch, like, std::move(storage));
  }
  return DecoderCache(std::move(caches), batch);
}

void Decoder::move_to(const Placement& placement) {
  // Codes and their scales keep their types, wherever they stand.
  visit_stored([&](const std::string&, at::Tensor& tensor) { tensor = tensor.to(placement.device); });
  visit_parameters([&](const std::string&, at::Tensor& tensor) {
    tensor = tensor.to(placement.device, placement.storage.value_or(tensor.scalar_type()));
  });
  compute_dtype = placement.compute;
  products = placement.products;
}

void Decoder::prepare_decode() {
  for (DecoderLayer& layer : layers) layer.attention->prepare_decode();
}

void Decoder::visit_weights(const WeightVisitor& visit) {
  const BlockNorms norms = block_norms(spec_.norms);
  visit.map("model.embed_tokens", embedding);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    DecoderLayer& layer = layers[i];
    const std::string prefix = cat("model.layers.", i, ".");
    const auto norm_of = [&](const char* name, at::Tensor& weight) {
      if (name != nullptr) visit.tensor(prefix + name + ".weight", weight);
    };
    norm_of(norms.before_attention, layer.attention_norm);
    const std::string attention = prefix + "self_attn.";
    layer.attention->visit_weights(
        {[&](const std::string& name, Linear& map) { visit.map(attention + name, map); },
         [&](const std::string& name, at::Tensor& tensor) { visit.tensor(attention + name, tensor); }});
    norm_of(norms.after_attention, layer.attention_end_norm);
    norm_of(norms.before_mlp, layer.mlp_norm);
    visit.map(prefix + "mlp.gate_proj", layer.gate);
    visit.map(prefix + "mlp.up_proj", layer.up);
    visit.map(prefix + "mlp.down_proj", layer.down);
    norm_of(norms.after_mlp, layer.mlp_end_norm);
  }
  visit.tensor("model.norm.weight", final_norm);
  if (output.defined()) visit.map("lm_head", output);
}

void Decoder::visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit) {
  visit_weights(each_parameter(visit));
}

void Decoder::visit_stored(const std::function<void(const std::string&, at::Tensor&)>& visit) {
  visit_weights(each_stored(visit));
}

std::int64_t Decoder::weight_bytes() const {
  std::int64_t bytes = 0;
  const_cast<Decoder*>(this)->visit_stored(
      [&](const std::string&, at::Tensor& tensor) { bytes += static_cast<std::int64_t>(tensor.nbytes()); });
  return bytes;
}

std::int64_t Decoder::predicted_weight_bytes() const {
  std::map<std::string, at::ScalarType> types;
  const_cast<Decoder*>(this)->visit_stored(
      [&](const std::string& name, at::Tensor& tensor) { types[name] = tensor.scalar_type(); });
  std::int64_t bytes = 0;
  for (const ModelParameter& parameter : model_parameters(spec_)) {
    if (!parameter.storage) {
      bytes += parameter.count() * static_cast<std::int64_t>(c10::elementSize(types.at(parameter.name)));
      continue;
    }
    const std::string first = cat(parameter.map_name(), ".", parameter.storage->parts(parameter.matrix()).front().name);
    bytes += bytes_of(*parameter.storage, parameter.matrix(), types.at(first));
  }
  return bytes;
}

std::int64_t Decoder::parameter_count() const {
  std::int64_t count = 0;
  // Visiting hands out references for replacement; counting replaces nothing.
  const_cast<Decoder*>(this)->visit_weights({[&](const std::string&, Linear& map) { count += map.parameters(); },
                                             [&](const std::string&, at::Tensor& tensor) { count += tensor.numel(); }});
  return count;
}

Decoder Decoder::clone() const {
  Decoder copy(spec_);
  copy.compute_dtype = compute_dtype;
  copy.products = products;
  copy.checkpoint_activations = checkpoint_activations;
  const auto tensor = [](const at::Tensor& t) { return t.defined() ? t.detach().clone() : t; };
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const DecoderLayer& from = layers[i];
    copy.layers[i] = {from.attention->clone(),
                      tensor(from.attention_norm),
                      tensor(from.mlp_norm),
                      from.gate.clone(),
                      from.up.clone(),
                      from.down.clone(),
                      tensor(from.attention_end_norm),
                      tensor(from.mlp_end_norm)};
  }
  copy.embedding = embedding.clone();
  copy.final_norm = tensor(final_norm);
  copy.output = output.clone();
  return copy;
}

}  // namespace mla
