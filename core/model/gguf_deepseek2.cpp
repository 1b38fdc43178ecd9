#include "core/model/gguf_deepseek2.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/model/family.h"
#include "core/model/gguf_config.h"
#include "core/model/gguf_keys.h"
#include "core/model/gguf_rope.h"
#include "core/model/model_config.h"

namespace mla {
namespace {

const std::string kDeepSeek2Prefix = std::string(kDeepSeek2) + ".";

/// By how much, relative and on average, a norm that is taken for the identity
/// may change a latent.
constexpr double kNegligibleNorm = 1e-3;
/// Weights are float32: a power of two that was meant is found again.
constexpr double kRoundedPower = 1e-6;

/// Sizes of a layer as files state them.
struct DeepSeek2Sizes {
  std::int64_t latent = 0, rotated = 0, content = 0, value = 0;
};

void refuse_experts(ConfigReader &keys, const Json &config) {
  const std::int64_t layers = config["num_hidden_layers"];
  const std::string dense = kDeepSeek2Prefix + "leading_dense_block_count";
  if (keys.integer_or(dense, 0) < layers) {
    keys.refuse(dense, cat("the blocks from there to ", layers - 1,
                           " are mixtures of experts, which are not supported; "
                           "files without them are read"));
  }
  // Of no effect where no block has experts.
  for (const char *key :
       {"expert_count", "expert_used_count", "expert_shared_count",
        "expert_feed_forward_length", "expert_weights_scale",
        "expert_weights_norm", "expert_gating_func", "expert_group_count",
        "expert_group_used_count", "expert_group_scale"})
    keys.value(kDeepSeek2Prefix + key);
  keys.require(kDeepSeek2Prefix + "nextn_predict_layers", 0,
               "layers that predict further tokens are not supported");
}

DeepSeek2Sizes read_deepseek2_sizes(ConfigReader &keys,
                                    const gguf::File &file) {
  DeepSeek2Sizes sizes;
  const std::string attention = kDeepSeek2Prefix + "attention.";
  keys.require(attention + "q_lora_rank", 0,
               "queries of low rank (attn_q_a, attn_q_b) are not supported");
  sizes.latent = keys.size(attention + "kv_lora_rank", 2 * kMostHeadRows);
  sizes.rotated =
      keys.size(kDeepSeek2Prefix + "rope.dimension_count", kMostHeadDim);
  if (sizes.rotated % 2 != 0)
    keys.refuse(kDeepSeek2Prefix + "rope.dimension_count", "must be even");
  // Older files expand keys and values: they state the widths of heads where
  // newer ones state those of the cache.
  const bool newer = keys.has(attention + "key_length_mla");
  const std::string key_length =
      attention + (newer ? "key_length_mla" : "key_length");
  const std::int64_t key = keys.size(key_length, 2 * kMostHeadDim);
  sizes.content = key - sizes.rotated;
  if (sizes.content < 1)
    keys.refuse(key_length,
                cat("must be more than the ", sizes.rotated, " rotated dims"));
  sizes.value = keys.size(
      attention + (newer ? "value_length_mla" : "value_length"), kMostHeadDim);
  if (newer) {
    keys.require(attention + "key_length", sizes.latent + sizes.rotated,
                 "expected kv_lora_rank + rotated dims");
    keys.require(attention + "value_length", sizes.latent,
                 "expected kv_lora_rank");
  }
  keys.value(attention + "head_count_kv"); // 1 where the cache is the latent,
                                           // else that of the heads
  if (has_gguf_tensor(file, "blk.0.attn_q_a.weight"))
    throw DataError(
        cat(file.path().string(), ": tensor blk.0.attn_q_a.weight: queries of "
                                  "low rank are not supported"));
  return sizes;
}

LatentLayout layout_of(const DeepSeek2Sizes &sizes) {
  LatentLayout layout;
  layout.kept = {
      std::vector<std::int64_t>(static_cast<std::size_t>(sizes.rotated / 2))};
  std::iota(layout.kept.front().begin(), layout.kept.front().end(), 0);
  layout.content_width = sizes.content;
  layout.value_width = sizes.value;
  layout.latent_width = sizes.latent;
  layout.key = {0, sizes.latent};
  layout.value = {0, sizes.latent};
  return layout;
}

/// What the norm on the latent multiplies it by, where that is one number for
/// all latents.
double factor_of_norm(const at::Tensor &norm, const at::Tensor &latent_rows,
                      const at::Tensor &input_norm, double epsilon,
                      const std::string &where) {
  const at::Tensor weights = norm.to(at::kDouble);
  const double weight = weights[0].item<double>();
  if (!at::all(weights == weight).item<bool>() || !(weight > 0)) {
    throw DataError(cat(where, ": a norm on the latent with weights of its "
                               "own, which latents of this program do not "
                               "have; files whose norm changes nothing are "
                               "read, as `mlaforge export` writes them"));
  }
  const double rows = static_cast<double>(latent_rows.size(0));
  const double norms =
      (latent_rows.to(at::kDouble) * input_norm.to(at::kDouble))
          .norm()
          .item<double>();
  const double error = norms * norms / rows / (2 * epsilon);
  if (!(error <= kNegligibleNorm)) {
    throw DataError(cat(where, ": a norm that changes latents (by some ", error,
                        " of their size), which latents of this "
                        "program do not have; files whose norm changes nothing "
                        "are read, as `mlaforge export` writes "
                        "them"));
  }
  const double factor = weight / std::sqrt(epsilon),
               power = std::exp2(std::round(std::log2(factor)));
  return std::abs(factor / power - 1) < kRoundedPower ? power : factor;
}

/// Pairs (2i, 2i + 1) of `count` dims from `from` on, along the dimension of
/// rows, as first dims and then partners.
at::Tensor split_pairs(const at::Tensor &rows) {
  std::vector<std::int64_t> shape = rows.sizes().vec();
  const std::size_t last = shape.size() - 2; // [..., dims, columns]
  std::vector<std::int64_t> paired = shape;
  paired[last] = shape[last] / 2;
  paired.insert(paired.begin() + static_cast<std::ptrdiff_t>(last) + 1, 2);
  return rows.reshape(paired).transpose(-2, -3).reshape(shape);
}

class DeepSeek2Layer {
public:
  DeepSeek2Layer(const gguf::File &file, const ModelSpec &spec,
                 std::int64_t index, const TakeGgufTensor &take)
      : file_(file), spec_(spec), index_(index), take_(take),
        layout_(*latent_layout(spec.attention(index))),
        heads_(spec.attention(index).heads()->heads) {}

  void read(bool values, WeightMap &weights) const {
    const std::int64_t content = layout_.content_width,
                       rope = layout_.rope_width(),
                       latent = layout_.latent_width;
    const std::int64_t hidden = spec_.hidden, key_rows = heads_ * content,
                       value_rows = heads_ * layout_.value_width;
    const at::Tensor query =
        take("attn_q", {heads_ * (content + rope), hidden});
    const at::Tensor kv_a = take("attn_kv_a_mqa", {latent + rope, hidden});
    const at::Tensor norm = take("attn_kv_a_norm", {latent});
    const auto [keys, all_values] = up_projections();
    const auto put = [&](const char *name, std::vector<std::int64_t> shape,
                         const std::function<at::Tensor()> &make) {
      weights.emplace(
          cat("model.layers.", index_, ".self_attn.", name, ".weight"),
          values ? make().reshape(shape)
                 : at::zeros({}, at::kFloat).expand(shape));
    };
    put("q_proj", query.sizes().vec(), [&] {
      const at::Tensor by_head =
          as_scaled(query).reshape({heads_, content + rope, hidden});
      return at::cat({split_pairs(by_head.narrow(1, content, rope)),
                      by_head.narrow(1, 0, content)},
                     1);
    });
    put("k_rope_proj", {rope, hidden},
        [&] { return split_pairs(kv_a.narrow(0, latent, rope)); });
    put("kv_down_proj", {latent, hidden}, [&] {
      const at::Tensor down = kv_a.narrow(0, 0, latent);
      return down.to(at::kFloat) * latent_factor(norm, down);
    });
    put("k_up_proj", {key_rows, latent}, [up = keys] { return up; });
    put("v_up_proj", {value_rows, latent}, [up = all_values] { return up; });
  }

private:
  /// Queries as they are multiplied here, where nothing but the width scales
  /// logits.
  at::Tensor as_scaled(const at::Tensor &query) const {
    if (spec_.rope_scaling.type != "linear")
      return query;
    return query.to(at::kFloat) *
           deepseek2_logit_scale(spec_.rope_scaling.factor);
  }

  at::Tensor take(const char *name,
                  const std::vector<std::int64_t> &shape) const {
    return take_(full(name), shape);
  }
  std::string full(const char *name) const {
    return cat("blk.", index_, ".", name, ".weight");
  }

  double latent_factor(const at::Tensor &norm, const at::Tensor &down) const {
    const at::Tensor input = take("attn_norm", {spec_.hidden});
    return factor_of_norm(
        norm, down, input, spec_.norm_epsilon,
        cat(file_.path().string(), ": tensor ", full("attn_kv_a_norm")));
  }

  /// [heads, content, latent] and [heads, value, latent]: apart, the keys'
  /// transposed, or together as in older files.
  std::pair<at::Tensor, at::Tensor> up_projections() const {
    const std::int64_t content = layout_.content_width,
                       value = layout_.value_width,
                       latent = layout_.latent_width;
    if (has_gguf_tensor(file_, full("attn_kv_b"))) {
      const at::Tensor all =
          take("attn_kv_b", {heads_ * (content + value), latent});
      const at::Tensor by_head = all.reshape({heads_, content + value, latent});
      return {by_head.narrow(1, 0, content), by_head.narrow(1, content, value)};
    }
    const at::Tensor keys = take("attn_k_b", {heads_, latent, content});
    return {keys.transpose(1, 2), take("attn_v_b", {heads_, value, latent})};
  }

  const gguf::File &file_;
  const ModelSpec &spec_;
  std::int64_t index_;
  const TakeGgufTensor &take_;
  const LatentLayout &layout_;
  std::int64_t heads_;
};

} // namespace

bool is_deepseek2(const gguf::File &file) {
  const auto found = file.values().find("general.architecture");
  return found != file.values().end() && !found->second.is_array &&
         found->second.type == gguf::ValueType::kString &&
         found->second.bytes.ends_with(kDeepSeek2) &&
         found->second.bytes.size() ==
             sizeof(std::uint64_t) + std::string_view(kDeepSeek2).size();
}

Json read_deepseek2_keys(ConfigReader &keys, const gguf::File &file) {
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"hidden_act", "silu"}};
  refuse_other_gguf_functions(keys, kDeepSeek2Prefix);
  add_gguf_sizes(keys, kDeepSeek2Prefix, file, config);
  refuse_experts(keys, config);
  const DeepSeek2Sizes sizes = read_deepseek2_sizes(keys, file);
  const std::int64_t heads = config["num_attention_heads"];
  config["num_key_value_heads"] = heads;
  config["head_dim"] = sizes.rotated; // whose pairs are those that are rotated
  constexpr const char *kUnscaled =
      "scaled rotation is not supported with this architecture, but linear";
  const std::string scaling = kDeepSeek2Prefix + "rope.scaling.type";
  if (keys.string_or(scaling, "none") == "yarn")
    keys.refuse(scaling, kUnscaled);
  if (has_gguf_tensor(file, kGgufRopeFactors))
    throw DataError(cat(file.path().string(), ": tensor ", kGgufRopeFactors,
                        ": ", kUnscaled));
  add_gguf_rope(keys, kDeepSeek2Prefix, file, config);
  config["attention_bias"] = false;
  config["mlp_bias"] = false;
  add_gguf_norm_and_ends(keys, kDeepSeek2Prefix, file, config);
  keys.finish();
  ModelSpec spec = read_published_config(config, keys.name());
  for (LayerSpec &layer : spec.layers) {
    HeadFields fields = *layer.attention->heads();
    fields.head_dim =
        sizes.content + sizes.rotated; // whose root logits are divided by
    layer.attention = std::make_shared<LatentSpec>(
        LatentSpec::Options{layout_of(sizes), fields});
  }
  try {
    check_spec(spec, keys.name());
  } catch (const ConfigError &error) {
    throw DataError(error.what()); // the keys of a file are data
  }
  return write_model_config(spec, config, keys.name());
}

double deepseek2_logit_scale(double factor) {
  return std::pow(1 + 0.1 * std::log(factor), 2);
}

bool is_rearranged_in_deepseek2(const std::string &name) {
  constexpr std::array kRearranged = {".q_proj.", ".k_rope_proj.",
                                      ".kv_down_proj.", ".k_up_proj.",
                                      ".v_up_proj."};
  return std::any_of(
      kRearranged.begin(), kRearranged.end(),
      [&](const char *part) { return name.find(part) != std::string::npos; });
}

void read_deepseek2_attention(const gguf::File &file, const ModelSpec &spec,
                              bool values, const TakeGgufTensor &take,
                              WeightMap &weights) {
  for (std::int64_t i = 0; i < spec.layer_count(); ++i)
    DeepSeek2Layer(file, spec, i, take).read(values, weights);
}

} // namespace mla
