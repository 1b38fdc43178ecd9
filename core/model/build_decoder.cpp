#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <atomic>
#include <map>
#include <utility>

#include "core/base/error.h"
#include "core/model/checkpoint.h"
#include "core/model/weight_names.h"
#include "core/model/weight_pages.h"

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

  /// A tensor of a stored matrix, which keeps its type.
  at::Tensor take_part(const std::string& key, const StoredPart& part) {
    if (!part.type) return take(key, part.shape);
    const at::Tensor tensor = take_out(key, part.shape, [&](const at::Tensor& found) {
      if (found.scalar_type() != *part.type) {
        throw DataError(cat(name_, ": ", key, ": expected ", c10::toString(*part.type), ", found ",
                            c10::toString(found.scalar_type())));
      }
    });
    return placed(tensor, tensor.scalar_type());
  }
  at::Tensor take(const std::string& key, const std::vector<std::int64_t>& shape) {
    const at::Tensor tensor = take_out(key, shape, [&](const at::Tensor& found) {
      if (!found.is_floating_point()) {
        throw DataError(cat(name_, ": ", key, ": expected floating point, found ", c10::toString(found.scalar_type())));
      }
    });
    if (options_.check_finite && !is_finite(tensor))
      throw DataError(cat(name_, ": ", key, ": holds NaN or infinite values"));
    return placed(tensor, options_.placement.storage.value_or(tensor.scalar_type()));
  }
  /// A linear map's matrix as `parameter` says it is held, or none.
  Linear take_map(const ModelParameter& parameter, at::Tensor bias) {
    if (!parameter.storage) return {take(parameter.name, parameter.shape), std::move(bias)};
    std::vector<at::Tensor> parts;
    for (const StoredPart& part : parameter.storage->parts(parameter.matrix()))
      parts.push_back(take_part(cat(parameter.map_name(), ".", part.name), part));
    if (options_.check_finite)
      parameter.storage->expect_valid(parts, parameter.matrix(), cat(name_, ": ", parameter.map_name()));
    return {parameter.storage, parameter.matrix(), std::move(parts), std::move(bias)};
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
  /// What of a file was looked at or copied need not stay in memory until it is used.
  at::Tensor placed(const at::Tensor& tensor, at::ScalarType type) const {
    const Placement& to = options_.placement;
    at::Tensor result =
        to.storage ? tensor.to(to.device, type, /*non_blocking=*/false, /*copy=*/true) : tensor.to(to.device);
    release_pages(tensor);
    return result;
  }

  template <class CheckType>
  at::Tensor take_out(const std::string& key, const std::vector<std::int64_t>& shape, const CheckType& check_type) {
    auto node = weights_.extract(key);
    if (node.empty()) throw DataError(cat(name_, ": tensor ", key, " is missing", what_is_there(weights_, key)));
    const at::Tensor& tensor = node.mapped();
    check_type(tensor);
    if (tensor.sizes() != at::IntArrayRef(shape)) {
      throw DataError(cat(name_, ": ", key, ": expected shape ", at::IntArrayRef(shape), ", found ", tensor.sizes()));
    }
    return tensor;
  }

  WeightMap weights_;
  std::string name_;
  const LoadOptions& options_;
};

/// Gives `add(name, weight)` the linear maps and other tensors that these parameters make up.
template <class Add>
void take_weights(WeightTaker& taker, const std::vector<ModelParameter>& parameters, const Add& add) {
  std::map<std::string, at::Tensor> biases;
  for (const ModelParameter& parameter : parameters) {
    if (parameter.role == ParameterRole::kBias)
      biases[parameter.map_name()] = taker.take(parameter.name, parameter.shape);
  }
  for (const ModelParameter& parameter : parameters) {
    if (parameter.role == ParameterRole::kNorm) {
      add(parameter.name, taker.take(parameter.name, parameter.shape));
    } else if (parameter.is_matrix()) {
      const auto bias = biases.extract(parameter.map_name());
      add(parameter.map_name(), taker.take_map(parameter, bias.empty() ? at::Tensor() : bias.mapped()));
    }
  }
  // A bias may stand without a matrix.
  for (auto& [name, bias] : biases) add(name, Linear({}, std::move(bias)));
}

/// The attention of a block, and the maps of its feed-forward part.
DecoderLayer take_layer(WeightTaker& taker, const ModelSpec& spec, std::int64_t index) {
  const std::string prefix = cat("model.layers.", index, "."), attention = prefix + "self_attn.";
  LayerWeights own, rest;
  take_weights(taker, layer_parameters(spec, index), [&](const std::string& name, auto weight) {
    if (name.starts_with(attention)) {
      own.add(name.substr(attention.size()), std::move(weight));
    } else {
      rest.add(name.substr(prefix.size()), std::move(weight));
    }
  });
  const BlockNorms norms = block_norms(spec.norms);
  const auto norm = [&](const char* name) { return name ? rest.tensor(cat(name, ".weight")) : at::Tensor(); };
  return {spec.attention(index).build(spec, std::move(own)),
          norm(norms.before_attention),
          norm(norms.before_mlp),
          rest.map("mlp.gate_proj"),
          rest.map("mlp.up_proj"),
          rest.map("mlp.down_proj"),
          norm(norms.after_attention),
          norm(norms.after_mlp)};
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

Decoder build_decoder(const ModelSpec& stated, WeightMap weights, const std::string& name, const LoadOptions& options) {
  WeightTaker taker(std::move(weights), name, options);
  ModelSpec spec = stated;
  if (spec.tied_embeddings) spec.tied_embeddings = tie(taker);
  Decoder decoder(spec);
  decoder.compute_dtype = options.placement.compute;
  decoder.products = options.placement.products;
  decoder.embedding = taker.take_map(embedding_parameter(spec), {});
  decoder.final_norm = taker.take("model.norm.weight", {spec.hidden});
  if (!spec.tied_embeddings) decoder.output = taker.take_map(output_parameter(spec), {});
  for (std::int64_t i = 0; i < spec.layer_count(); ++i) {
    decoder.layers[static_cast<std::size_t>(i)] = take_layer(taker, spec, i);
  }
  taker.finish();
  return decoder;
}

}  // namespace mla
