#include "core/model/decoder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/base/error.h"
#include "core/ops/checkpoint_block.h"
#include "core/ops/feed_forward.h"
#include "core/ops/rms_norm.h"

namespace mla {
namespace {

at::Tensor feed_forward(const DecoderLayer& layer, const at::Tensor& x) {
  const bool biased = layer.gate.bias.defined() || layer.up.bias.defined() || layer.down.bias.defined();
  if (biased) return layer.down(at::silu(layer.gate(x)) * layer.up(x));
  return mla::feed_forward(x, matching(layer.gate.weight, x), matching(layer.up.weight, x), matching(layer.down.weight, x));
}

at::Tensor norm(const at::Tensor& x, const at::Tensor& weight, const Geometry& geometry) {
  return rms_norm(x, matching(weight, x), geometry.norm_epsilon);
}

}  // namespace

std::int64_t DecoderCache::bytes() const {
  std::int64_t total = 0;
  for (const LayerCache& layer : layers_) total += layer.bytes();
  return total;
}

void DecoderCache::reset() {
  for (LayerCache& layer : layers_) layer.reset();
}

DecoderCache DecoderCache::select(const at::Tensor& rows) const {
  std::vector<LayerCache> layers;
  for (const LayerCache& layer : layers_) layers.push_back(layer.select(rows));
  return DecoderCache(std::move(layers));
}

Decoder::Decoder(Geometry shape) : geometry(std::move(shape)), rotary_(geometry.rotary()) {
  layers.resize(static_cast<std::size_t>(geometry.layers));
}

at::Tensor Decoder::embed(const at::Tensor& ids) const { return at::embedding(embedding, ids).to(compute_dtype); }

RotaryTable Decoder::rotary_table(std::int64_t first, std::int64_t count, std::int64_t length) const {
  return rotary_.table(first, count, length, embedding.options().dtype(compute_dtype));
}

at::Tensor Decoder::apply_layer(std::size_t index, const at::Tensor& x, const RotaryTable& rotary,
                                const QueryKeyProbe& probe, const at::Tensor& documents) const {
  const DecoderLayer& layer = layers.at(index);
  const at::Tensor attended =
      x + layer.attention->forward(norm(x, layer.attention_norm, geometry), rotary, probe, documents);
  return attended + feed_forward(layer, norm(attended, layer.mlp_norm, geometry));
}

at::Tensor Decoder::hidden_states(const at::Tensor& ids, const at::Tensor& documents) const {
  at::Tensor x = embed(ids);
  const RotaryTable rotary = rotary_table(0, ids.size(1), ids.size(1));
  const bool checkpointed = checkpoint_activations && at::GradMode::is_enabled();
  // A layer's parameters may be trained below an embedding that is not.
  if (checkpointed && !x.requires_grad()) x = x.detach().requires_grad_(true);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto layer = [=, this](const at::Tensor& input) { return apply_layer(i, input, rotary, {}, documents); };
    x = checkpointed ? checkpoint_block(x, layer) : layer(x);
  }
  return norm(x, final_norm, geometry);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const {
  return at::linear(hidden, matching(output.defined() ? output : embedding, hidden));
}

at::Tensor Decoder::forward(const at::Tensor& ids) const { return logits(hidden_states(ids)); }

at::Tensor Decoder::forward_cached(const at::Tensor& ids, DecoderCache& cache, DecodePath path) const {
  return logits(hidden_states_cached(ids, cache, path).select(1, ids.size(1) - 1));
}

at::Tensor Decoder::hidden_states_cached(const at::Tensor& ids, DecoderCache& cache, DecodePath path) const {
  const std::int64_t first = cache.length(), count = ids.size(1);
  at::Tensor x = embed(ids);
  const RotaryTable rotary = rotary_table(first, count, first + count);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const DecoderLayer& layer = layers[i];
    x = x + layer.attention->forward_cached(norm(x, layer.attention_norm, geometry), rotary,
                                            cache.layer(i), path);
    x = x + feed_forward(layer, norm(x, layer.mlp_norm, geometry));
  }
  return norm(x, final_norm, geometry);
}

DecoderCache Decoder::make_cache(std::int64_t batch) const {
  std::vector<LayerCache> caches;
  for (const DecoderLayer& layer : layers) {
    caches.emplace_back(layer.attention->cache_streams(), batch, embedding.options().dtype(compute_dtype).requires_grad(false));
  }
  return DecoderCache(std::move(caches));
}

void Decoder::visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit) {
  visit("model.embed_tokens.weight", embedding);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    DecoderLayer& layer = layers[i];
    const std::string prefix = cat("model.layers.", i, ".");
    visit(prefix + "input_layernorm.weight", layer.attention_norm);
    layer.attention->visit_parameters(
        [&](const std::string& name, at::Tensor& tensor) { visit(prefix + "self_attn." + name, tensor); });
    visit(prefix + "post_attention_layernorm.weight", layer.mlp_norm);
    layer.gate.visit(prefix + "mlp.gate_proj", visit);
    layer.up.visit(prefix + "mlp.up_proj", visit);
    layer.down.visit(prefix + "mlp.down_proj", visit);
  }
  visit("model.norm.weight", final_norm);
  if (output.defined()) visit("lm_head.weight", output);
}

std::int64_t Decoder::parameter_count() const {
  std::int64_t count = 0;
  // Visiting hands out references for replacement; counting replaces nothing.
  const_cast<Decoder*>(this)->visit_parameters([&](const std::string&, at::Tensor& tensor) { count += tensor.numel(); });
  return count;
}

std::vector<std::int64_t> Decoder::cached_elements() const {
  std::vector<std::int64_t> elements;
  for (const DecoderLayer& layer : layers) elements.push_back(elements_per_token(layer.attention->cache_streams()));
  return elements;
}

Decoder Decoder::clone() const {
  Decoder copy(geometry);
  copy.compute_dtype = compute_dtype;
  copy.checkpoint_activations = checkpoint_activations;
  const auto tensor = [](const at::Tensor& t) { return t.defined() ? t.detach().clone() : t; };
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const DecoderLayer& from = layers[i];
    copy.layers[i] = {from.attention->clone(), tensor(from.attention_norm), tensor(from.mlp_norm),
                      from.gate.clone(), from.up.clone(), from.down.clone()};
  }
  copy.embedding = tensor(embedding);
  copy.final_norm = tensor(final_norm);
  copy.output = tensor(output);
  return copy;
}

}  // namespace mla
