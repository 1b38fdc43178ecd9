#include "core/serve/deepseek_form.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/base/mapped_memory.h"
#include "core/base/memory.h"
#include "core/serve/served_layout.h"

namespace mla {
namespace {

/// Stands in a list of rows for a row of zeros.
constexpr std::int64_t kNoRow = -1;

at::Tensor on_host(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU, at::kFloat); }

/// Rows of `tensor` by their numbers, in a tensor of its own.
at::Tensor gathered(const at::Tensor& tensor, std::vector<std::int64_t> rows) {
  const std::int64_t zeros = tensor.size(0);
  std::replace(rows.begin(), rows.end(), kNoRow, zeros);
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  shape.front() = 1;
  const bool all = std::find(rows.begin(), rows.end(), zeros) == rows.end();
  const at::Tensor source = all ? tensor : at::cat({tensor, at::zeros(shape, tensor.options())});
  return source.index_select(0, at::tensor(rows, at::kLong));
}

/// Where each row of the form's tensors stands in the model's.
class Rows {
 public:
  Rows(const LatentLayout& layout, const HeadFields& heads, const DeepSeekSizes& sizes)
      : layout_(layout), heads_(heads), sizes_(sizes), places_(rotated_places(layout)) {}

  std::vector<std::int64_t> query() const {
    const std::int64_t rope = layout_.rope_width(), width = rope + layout_.content_width;
    std::vector<std::int64_t> rows;
    for (std::int64_t head = 0; head < heads_.heads; ++head) {
      for (std::int64_t i = 0; i < sizes_.content; ++i)
        rows.push_back(i < layout_.content_width ? head * width + rope + i : kNoRow);
      const std::size_t block = rows.size();
      rows.resize(block + static_cast<std::size_t>(sizes_.rotated), kNoRow);
      place(head / heads_.group(), head * width, block, rows);
    }
    return rows;
  }

  /// The latent's, then, behind all of them, the rotated keys'.
  std::vector<std::int64_t> kv_a() const {
    std::vector<std::int64_t> rows(static_cast<std::size_t>(sizes_.cached()), kNoRow);
    for (std::int64_t i = 0; i < layout_.latent_width; ++i) rows[static_cast<std::size_t>(i)] = i;
    for (std::int64_t key = 0; key < layout_.rope_heads(); ++key)
      place(key, layout_.latent_width + key * layout_.rope_width(), static_cast<std::size_t>(sizes_.latent), rows);
    return rows;
  }

  /// Keys of all KV heads, then values of all.
  std::vector<std::int64_t> kv_b() const {
    std::vector<std::int64_t> rows;
    const std::int64_t keys = heads_.kv_heads * layout_.content_width;
    for (std::int64_t head = 0; head < heads_.heads; ++head) {
      const std::int64_t source = head / heads_.group();
      for (std::int64_t i = 0; i < sizes_.content; ++i)
        rows.push_back(i < layout_.content_width ? source * layout_.content_width + i : kNoRow);
      for (std::int64_t i = 0; i < sizes_.value; ++i) rows.push_back(keys + source * layout_.value_width + i);
    }
    return rows;
  }

 private:
  /// The pairs of a rotated key, whose rows begin at `from`, into the block of `rows` that begins at `block`.
  void place(std::int64_t kv_head, std::int64_t from, std::size_t block, std::vector<std::int64_t>& rows) const {
    const auto key = static_cast<std::size_t>(layout_.rope_heads() == 1 ? 0 : kv_head);
    const std::int64_t pairs = layout_.rope_width() / 2;
    for (std::int64_t i = 0; i < pairs; ++i) {
      const std::size_t at = block + 2 * static_cast<std::size_t>(places_.places[key][static_cast<std::size_t>(i)]);
      rows[at] = from + i;
      rows[at + 1] = from + pairs + i;
    }
  }

  const LatentLayout& layout_;
  const HeadFields& heads_;
  const DeepSeekSizes& sizes_;
  RotatedPlaces places_;
};

Rows rows_of(const LatentAttention& layer, const DeepSeekSizes& sizes) {
  return {layer.layout(), layer.heads(), sizes};
}

/// What logits of the form, which divides by the root of its own width, are short of.
double query_scale(const LatentAttention& layer, const DeepSeekSizes& sizes) {
  return softmax_scale(layer.frame(), layer.heads()) * std::sqrt(static_cast<double>(sizes.query_width()));
}

at::Tensor query_of(const LatentAttention& layer, const DeepSeekSizes& sizes) {
  return gathered(on_host(layer.weights().query.to_dense()), rows_of(layer, sizes).query())
      .mul_(query_scale(layer, sizes));
}

at::Tensor kv_a_of(const LatentAttention& layer, const DeepSeekSizes& sizes) {
  std::vector<at::Tensor> all = {on_host(layer.weights().down.to_dense())};
  if (layer.layout().rope_width() > 0) all.push_back(on_host(layer.weights().rope_key.to_dense()));
  return gathered(at::cat(all), rows_of(layer, sizes).kv_a());
}

/// [rows, latent]: an up-projection that reads its slice of the latent; where there is none, the slice itself.
at::Tensor widened(const Linear& up, const LatentSlice& slice, std::int64_t latent) {
  const at::Tensor own = up.defined() ? on_host(up.to_dense()) : at::eye(slice.width, at::kFloat);
  at::Tensor wide = at::zeros({own.size(0), latent}, own.options());
  wide.narrow(1, slice.begin, slice.width).copy_(own);
  return wide;
}

at::Tensor kv_b_of(const LatentAttention& layer, const DeepSeekSizes& sizes) {
  const LatentLayout& layout = layer.layout();
  std::vector<at::Tensor> all;
  if (layout.content_width > 0) all.push_back(widened(layer.weights().key_up, layout.key, sizes.latent));
  all.push_back(widened(layer.weights().value_up, layout.value, sizes.latent));
  return gathered(at::cat(all), rows_of(layer, sizes).kv_b());
}

/// Biases of rotated keys, behind the latent's, which has none. Those of position-free keys add the same to all logits
/// of a query, and drop out.
at::Tensor kv_a_bias_of(const LatentAttention& layer, const DeepSeekSizes& sizes) {
  const at::Tensor& bias = layer.weights().rope_key.bias();
  const at::Tensor none = at::zeros({layer.layout().latent_width}, at::kFloat);
  const at::Tensor all = bias.defined()
                             ? at::cat({none, on_host(bias)})
                             : at::cat({none, at::zeros({layer.layout().rope_heads() * layer.layout().rope_width()})});
  return gathered(all, rows_of(layer, sizes).kv_a());
}

/// Weights of attention sum up to one: a bias of values passes it unchanged, and the output projection makes it one of
/// its own.
at::Tensor output_bias_of(const LatentAttention& layer, const DeepSeekSizes& sizes) {
  const Linear& output = layer.weights().output;
  at::Tensor bias = output.bias().defined() ? on_host(output.bias()).clone() : at::zeros({sizes.hidden}, at::kFloat);
  const at::Tensor& of_values = layer.weights().value_up.bias();
  if (!of_values.defined()) return bias;
  const at::Tensor by_head = on_host(of_values).view({layer.heads().kv_heads, sizes.value});
  return bias.add_(at::mv(on_host(output.to_dense()), by_head.repeat_interleave(layer.heads().group(), 0).flatten()));
}

const LatentAttention& latent_at(const Decoder& decoder, std::int64_t index) {
  const LatentAttention* layer = as_latent(*decoder.layers.at(static_cast<std::size_t>(index)).attention);
  expects(layer, "a servable layer is of kind latent");
  return *layer;
}

DeepSeekSizes sizes_of(const ModelSpec& spec, const std::vector<const LatentLayout*>& layouts,
                       const FormPadding& padding) {
  const LatentLayout& layout = *layouts.front();
  DeepSeekSizes sizes;
  sizes.layers = spec.layer_count();
  sizes.hidden = spec.hidden;
  sizes.intermediate = spec.layers.front().feed_forward.width;
  sizes.vocabulary = spec.vocabulary;
  sizes.max_positions = spec.max_positions;
  sizes.heads = spec.layers.front().attention->heads()->heads;
  // A rotated key of no dims, or heads of rotated ones alone, fail in one engine or another: zeros take their place.
  sizes.rotated = std::max<std::int64_t>({layout.rope_heads() * layout.rope_width(), padding.rotated, 2});
  sizes.content = std::max<std::int64_t>(layout.content_width, 1);
  sizes.value = layout.value_width;
  sizes.latent = std::max(layout.latent_width, padding.latent);
  for (const LayerSpec& layer : spec.layers) {
    const HeadFields heads = *layer.attention->heads();
    sizes.query_bias = sizes.query_bias || heads.query_bias;
    sizes.kv_a_bias = sizes.kv_a_bias || (heads.key_bias && layout.rope_width() > 0);
    sizes.output_bias = sizes.output_bias || heads.output_bias || heads.value_bias;
  }
  return sizes;
}

}  // namespace

DeepSeekForm::DeepSeekForm(const Decoder& decoder, const FormPadding& padding, std::string where)
    : decoder_(decoder), where_(std::move(where)) {
  const ModelSpec& model = decoder.spec();
  const auto layouts = servable_layouts(model, padding.latent, where_);
  sizes_ = sizes_of(model, layouts, padding);
  const std::vector<std::int64_t> pairs = rotated_places(*layouts.front()).pairs;
  if (padding.rotated > 0 && 2 * std::ssize(pairs) > padding.rotated)
    throw ConfigError(cat(where_, ": the rotated key has ", 2 * std::ssize(pairs), " dims, which cannot be padded to ",
                          padding.rotated, "; leave out --pad"));
  const at::Tensor all = model.rotary().frequencies(model.max_positions);
  std::vector<double> frequencies;
  for (const std::int64_t pair : pairs) frequencies.push_back(all[pair].item<double>());
  rope_ = ladder_of(frequencies, sizes_.rotated / 2, model.rope_theta);
}

double DeepSeekForm::largest_latent() const {
  // A normalised input has a norm of sqrt(d) before its weights, so that of the latent is at most that of the map.
  double largest = 0;
  for (std::int64_t i = 0; i < sizes_.layers; ++i) {
    const at::Tensor down = kv_a_of(latent_at(decoder_, i), sizes_).narrow(0, 0, sizes_.latent);
    const at::Tensor scaled = down * on_host(decoder_.layers[static_cast<std::size_t>(i)].attention_norm);
    const double share = static_cast<double>(sizes_.hidden) / static_cast<double>(sizes_.latent);
    largest = std::max(largest, scaled.norm().item<double>() * std::sqrt(share));
  }
  return largest;
}

double DeepSeekForm::largest_query() const {
  double largest = 0;
  for (std::int64_t i = 0; i < sizes_.layers; ++i) {
    const LatentAttention& layer = latent_at(decoder_, i);
    const at::Tensor rotated = kv_a_of(layer, sizes_).narrow(0, sizes_.latent, sizes_.rotated);
    largest =
        std::max({largest, query_of(layer, sizes_).abs().max().item<double>(), rotated.abs().max().item<double>()});
  }
  return largest;
}

DeepSeekLayer DeepSeekForm::layer(std::int64_t index) const {
  // Layers before this one are written: neither their pages nor what was made of them are needed any more.
  release_all_mapped();
  give_back_freed_memory();
  const LatentAttention& attention = latent_at(decoder_, index);
  const DecoderLayer& block = decoder_.layers[static_cast<std::size_t>(index)];
  DeepSeekLayer layer;
  layer.input_norm = on_host(block.attention_norm);
  layer.query = query_of(attention, sizes_);
  if (sizes_.query_bias) {
    const at::Tensor& bias = attention.weights().query.bias();
    layer.query_bias =
        bias.defined()
            ? gathered(on_host(bias), rows_of(attention, sizes_).query()).mul_(query_scale(attention, sizes_))
            : at::zeros({layer.query.size(0)}, at::kFloat);
  }
  layer.kv_a = kv_a_of(attention, sizes_);
  if (sizes_.kv_a_bias) layer.kv_a_bias = kv_a_bias_of(attention, sizes_);
  layer.kv_a_norm = at::ones({sizes_.latent}, at::kFloat);
  layer.kv_b = kv_b_of(attention, sizes_);
  layer.output = on_host(attention.weights().output.to_dense());
  if (sizes_.output_bias) layer.output_bias = output_bias_of(attention, sizes_);
  layer.mlp_norm = on_host(block.mlp_norm);
  layer.gate = on_host(block.gate.to_dense());
  layer.up = on_host(block.up.to_dense());
  layer.down = on_host(block.down.to_dense());
  if (norm_) apply_norm(*norm_, layer);
  return layer;
}

at::Tensor DeepSeekForm::embedding() const {
  const at::Tensor held = decoder_.embedding.to_dense(), table = on_host(held);
  if (!norm_ || norm_->residual == 1) return table;
  const bool copied = held.scalar_type() != table.scalar_type();  // the largest tensor is not copied twice
  return copied ? table.mul_(norm_->residual) : table * norm_->residual;
}

at::Tensor DeepSeekForm::final_norm() const { return on_host(decoder_.final_norm); }

at::Tensor DeepSeekForm::lm_head() const { return on_host(decoder_.output_map().to_dense()); }

}  // namespace mla
