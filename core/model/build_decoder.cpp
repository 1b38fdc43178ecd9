#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <atomic>

#include "core/attention/grouped_query.h"
#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/model/checkpoint.h"
#include "core/model/latent_config.h"
#include "core/model/weight_names.h"

namespace mla {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kOutput = "lm_head.weight";

/// NaN and infinity are the values whose exponent bits are all ones.
template <class Bits>
bool all_finite(const at::Tensor& tensor, Bits exponent) {
  const Bits* bits = static_cast<const Bits*>(tensor.const_data_ptr());
  std::atomic<bool> finite{true};
  at::parallel_for(0, tensor.numel(), 1 << 16, [&](std::int64_t begin, std::int64_t end) {
    bool bad = false;
    for (std::int64_t i = begin; i < end; ++i) bad |= (bits[i] & exponent) == exponent;
    if (bad) finite = false;
  });
  return finite;
}

bool is_finite(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kHalf:
      return all_finite<std::uint16_t>(tensor, 0x7C00);
    case at::kBFloat16:
      return all_finite<std::uint16_t>(tensor, 0x7F80);
    case at::kFloat:
      return all_finite<std::uint32_t>(tensor, 0x7F800000U);
    case at::kDouble:
      return all_finite<std::uint64_t>(tensor, 0x7FF0000000000000ULL);
    default:
      return true;
  }
}

/// Takes tensors out of the map one by one, checked; what is left at the end nobody wanted.
class WeightTaker {
 public:
  WeightTaker(WeightMap weights, std::string name, const LoadOptions& options)
      : weights_(std::move(weights)), name_(std::move(name)), options_(options) {}

  at::Tensor take(const std::string& key, std::vector<std::int64_t> shape) {
    auto node = weights_.extract(key);
    if (node.empty()) throw DataError(cat(name_, ": tensor ", key, " is missing", what_is_there(weights_, key)));
    const at::Tensor& tensor = node.mapped();
    if (!tensor.is_floating_point()) {
      throw DataError(cat(name_, ": ", key, ": expected floating point, found ", c10::toString(tensor.scalar_type())));
    }
    if (tensor.sizes() != at::IntArrayRef(shape)) {
      throw DataError(cat(name_, ": ", key, ": expected shape ", at::IntArrayRef(shape), ", found ", tensor.sizes()));
    }
    if (options_.check_finite && !is_finite(tensor))
      throw DataError(cat(name_, ": ", key, ": holds NaN or infinite values"));
    return options_.dtype ? tensor.to(*options_.dtype, /*non_blocking=*/false, /*copy=*/true) : tensor;
  }
  Projection projection(const std::string& key, std::int64_t rows, std::int64_t columns, bool bias) {
    Projection projection{take(key + ".weight", {rows, columns}), {}};
    if (bias) projection.bias = take(key + ".bias", {rows});
    return projection;
  }
  /// One weight for all heads, or one per head.
  at::Tensor take_norm(const std::string& key, std::int64_t heads, std::int64_t width) {
    const auto found = weights_.find(key);
    const bool per_head = found != weights_.end() && found->second.dim() == 2;
    return per_head ? take(key, {heads, width}) : take(key, {width});
  }
  /// Whether both are there with the same values, whatever dtypes they are held in.
  bool equal(const std::string& first, const std::string& second) const {
    const auto a = weights_.find(first), b = weights_.find(second);
    if (a == weights_.end() || b == weights_.end() || a->second.sizes() != b->second.sizes()) return false;
    const bool alike = a->second.scalar_type() == b->second.scalar_type();
    return alike ? at::equal(a->second, b->second) : at::equal(a->second.to(at::kDouble), b->second.to(at::kDouble));
  }
  bool contains(const std::string& key) const { return weights_.contains(key); }
  void drop(const std::string& key) { weights_.erase(key); }
  void rename(const std::string& from, const std::string& to) {
    auto node = weights_.extract(from);
    node.key() = to;
    weights_.insert(std::move(node));
  }

  /// Refuses leftovers: they would silently be left out of the function. Old files carry RoPE tables, which are not.
  void finish() const {
    for (const auto& [key, tensor] : weights_) {
      if (!key.ends_with("rotary_emb.inv_freq")) {
        throw DataError(
            cat(name_, ": tensor ", brief_text(key), " has no place in the model that config.json describes"));
      }
    }
  }

 private:
  WeightMap weights_;
  std::string name_;
  const LoadOptions& options_;
};

std::unique_ptr<Attention> take_grouped_query(WeightTaker& taker, const Geometry& geometry, std::int64_t layer,
                                              const std::string& prefix) {
  const std::int64_t query_rows = geometry.heads * geometry.head_dim, key_rows = geometry.kv_heads * geometry.head_dim;
  GroupedQueryAttention::Weights weights;
  weights.query = taker.projection(prefix + "q_proj", query_rows, geometry.hidden, geometry.query_bias);
  weights.key = taker.projection(prefix + "k_proj", key_rows, geometry.hidden, geometry.key_bias);
  weights.value = taker.projection(prefix + "v_proj", key_rows, geometry.hidden, geometry.value_bias);
  weights.output = taker.projection(prefix + "o_proj", geometry.hidden, query_rows, geometry.output_bias);
  if (geometry.qk_norm) {
    weights.query_norm = taker.take(prefix + "q_norm.weight", {geometry.head_dim});
    weights.key_norm = taker.take(prefix + "k_norm.weight", {geometry.head_dim});
  }
  return std::make_unique<GroupedQueryAttention>(geometry.attention(layer), std::move(weights));
}

std::unique_ptr<Attention> take_latent(WeightTaker& taker, const Geometry& geometry, std::int64_t layer,
                                       const LatentLayerConfig& config, const std::string& prefix) {
  const LatentLayout& layout = config.layout;
  const std::int64_t query_width = layout.rope_width() + layout.content_width;
  const std::int64_t key_rows = geometry.kv_heads * layout.content_width,
                     value_rows = geometry.kv_heads * layout.value_width;
  LatentAttention::Weights weights;
  weights.query =
      taker.projection(prefix + "q_proj", geometry.heads * query_width, geometry.hidden, geometry.query_bias);
  weights.rope_key = taker.projection(prefix + "k_rope_proj", layout.rope_heads() * layout.rope_width(),
                                      geometry.hidden, geometry.key_bias);
  weights.down = taker.projection(prefix + "kv_down_proj", layout.latent_width, geometry.hidden, false);
  if (config.key_up) weights.key_up.weight = taker.take(prefix + "k_up_proj.weight", {key_rows, layout.key.width});
  if (config.value_up)
    weights.value_up.weight = taker.take(prefix + "v_up_proj.weight", {value_rows, layout.value.width});
  if (geometry.key_bias) weights.key_up.bias = taker.take(prefix + "k_up_proj.bias", {key_rows});
  if (geometry.value_bias) weights.value_up.bias = taker.take(prefix + "v_up_proj.bias", {value_rows});
  weights.output =
      taker.projection(prefix + "o_proj", geometry.hidden, geometry.heads * layout.value_width, geometry.output_bias);
  if (geometry.qk_norm) {
    weights.query_norm = taker.take_norm(prefix + "q_norm.weight", geometry.heads, query_width);
    weights.key_norm = taker.take_norm(prefix + "k_norm.weight", geometry.kv_heads, query_width);
  }
  return std::make_unique<LatentAttention>(geometry.attention(layer), layout, std::move(weights));
}

/// Files store a tied matrix under either name, or under both. Returns whether it is one: a file's own output matrix
/// with other values is kept, as in transformers.
bool tie(WeightTaker& taker) {
  if (!taker.contains(kOutput)) return true;
  if (!taker.contains(kEmbedding)) {
    taker.rename(kOutput, kEmbedding);
    return true;
  }
  if (!taker.equal(kEmbedding, kOutput)) return false;
  taker.drop(kOutput);
  return true;
}

}  // namespace

Decoder build_decoder(const Geometry& stated, const Json& config, WeightMap weights, const std::string& name,
                      const LoadOptions& options) {
  const auto latent = read_latent_config(config, stated, name);
  WeightTaker taker(std::move(weights), name, options);
  Geometry geometry = stated;
  if (geometry.tied_embeddings) geometry.tied_embeddings = tie(taker);
  Decoder decoder(geometry);
  decoder.compute_dtype = options.dtype.value_or(at::kFloat);
  decoder.embedding = taker.take(kEmbedding, {geometry.vocabulary, geometry.hidden});
  decoder.final_norm = taker.take("model.norm.weight", {geometry.hidden});
  if (!geometry.tied_embeddings) decoder.output = taker.take(kOutput, {geometry.vocabulary, geometry.hidden});
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) {
    DecoderLayer& layer = decoder.layers[i];
    const std::string prefix = cat("model.layers.", i, "."), attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    const auto index = static_cast<std::int64_t>(i);
    layer.attention_norm = taker.take(prefix + "input_layernorm.weight", {geometry.hidden});
    layer.mlp_norm = taker.take(prefix + "post_attention_layernorm.weight", {geometry.hidden});
    layer.attention = latent[i] ? take_latent(taker, geometry, index, *latent[i], attention)
                                : take_grouped_query(taker, geometry, index, attention);
    layer.gate = taker.projection(mlp + "gate_proj", geometry.intermediate, geometry.hidden, geometry.mlp_bias);
    layer.up = taker.projection(mlp + "up_proj", geometry.intermediate, geometry.hidden, geometry.mlp_bias);
    layer.down = taker.projection(mlp + "down_proj", geometry.hidden, geometry.intermediate, geometry.mlp_bias);
  }
  taker.finish();
  return decoder;
}

}  // namespace mla
