#include "core/model/deepseek_weights.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>
#include <vector>

#include "core/attention/latent.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// A norm changes nothing where what enters it is so much smaller than the root of its epsilon: half the square of
/// this.
constexpr double kTooSmallToMatter = 1e-3;

/// The tensors of one layer.
class LayerTensors {
 public:
  LayerTensors(WeightMap& weights, std::int64_t layer, const ModelSpec& spec, const DeepSeekFile& file,
               const std::string& name)
      : weights_(weights),
        prefix_(cat("model.layers.", layer, ".")),
        heads_(*spec.attention(layer).heads()),
        hidden_(spec.hidden),
        file_(file),
        name_(name) {}

  void rename() {
    const auto [query, query_bias] = queries();
    put("q_proj.weight", query.index_select(0, query_rows()));
    if (heads_.query_bias) put("q_proj.bias", query_bias.index_select(0, query_rows()));
    const at::Tensor down = take("kv_a_proj_with_mqa.weight", {file_.latent + file_.rotated, hidden_});
    put("kv_down_proj.weight", down.narrow(0, 0, file_.latent));
    put("k_rope_proj.weight", down.narrow(0, file_.latent, file_.rotated).index_select(0, rotated_rows()));
    if (file_.latent_norm) put("kv_norm.weight", take("kv_a_layernorm.weight", {file_.latent}));
    const at::Tensor up = take("kv_b_proj.weight", {heads_.heads * (file_.content + file_.value), file_.latent});
    const at::Tensor by_head = up.unflatten(0, {heads_.heads, file_.content + file_.value});
    put("k_up_proj.weight", by_head.narrow(1, 0, file_.content).flatten(0, 1));
    const at::Tensor value_up = by_head.narrow(1, file_.content, file_.value).flatten(0, 1);
    if (file_.bias) put_biases(value_up);
    put("v_up_proj.weight", value_up);
  }

 private:
  at::Tensor take(const std::string& tensor, const std::vector<std::int64_t>& shape) {
    const std::string whole = prefix_ + "self_attn." + tensor;
    auto node = weights_.extract(whole);
    if (node.empty()) throw DataError(cat(name_, ": tensor ", whole, " is missing"));
    if (node.mapped().sizes() != at::IntArrayRef(shape))
      throw DataError(
          cat(name_, ": ", whole, ": expected shape ", at::IntArrayRef(shape), ", found ", node.mapped().sizes()));
    return node.mapped();
  }
  void put(const std::string& tensor, const at::Tensor& values) {
    weights_.insert_or_assign(prefix_ + "self_attn." + tensor, values.contiguous());
  }

  /// First dims of the pairs, then their partners, as rows of a rotated part that begins at `begin`.
  void add_pairs(std::int64_t begin, std::vector<std::int64_t>& rows) const {
    const std::int64_t pairs = file_.rotated / 2, step = file_.neighbours ? 2 : 1;
    const std::int64_t partner = file_.neighbours ? 1 : pairs;
    for (std::int64_t i = 0; i < pairs; ++i) rows.push_back(begin + step * i);
    for (std::int64_t i = 0; i < pairs; ++i) rows.push_back(begin + step * i + partner);
  }
  at::Tensor rotated_rows() const {
    std::vector<std::int64_t> rows;
    add_pairs(0, rows);
    return at::tensor(rows, at::kLong);
  }
  at::Tensor query_rows() const {
    std::vector<std::int64_t> rows;
    for (std::int64_t head = 0; head < heads_.heads; ++head) {
      const std::int64_t begin = head * heads_.head_dim;
      add_pairs(begin + file_.content, rows);
      for (std::int64_t i = 0; i < file_.content; ++i) rows.push_back(begin + i);
    }
    return at::tensor(rows, at::kLong);
  }

  /// The one map that makes queries, and its bias where there is one.
  std::pair<at::Tensor, at::Tensor> queries() {
    const std::int64_t rows = heads_.heads * heads_.head_dim, rank = file_.query_rank;
    if (rank == 0)
      return {take("q_proj.weight", {rows, hidden_}), heads_.query_bias ? take("q_proj.bias", {rows}) : at::Tensor()};
    const bool behind = heads_.query_bias && !file_.output_bias;  // TransMLA's bias is that of the second map
    at::Tensor first = take("q_a_proj.weight", {rank, hidden_}).to(at::kFloat), bias;
    if (heads_.query_bias && !behind) bias = take("q_a_proj.bias", {rank}).to(at::kFloat);
    if (file_.latent_norm) {
      const at::Tensor gain = without_norm(first, bias, take("q_a_layernorm.weight", {rank}).to(at::kFloat));
      first = first * gain.unsqueeze(1);
      if (bias.defined()) bias = bias * gain;
    }
    const at::Tensor second = take("q_b_proj.weight", {rows, rank}).to(at::kFloat);
    if (bias.defined()) bias = at::mv(second, bias);
    return {at::mm(second, first), behind ? take("q_b_proj.bias", {rows}) : bias};
  }

  /// What a norm multiplies by whose inputs, `map` of a normalised state, are too small to be normalised.
  at::Tensor without_norm(const at::Tensor& map, const at::Tensor& bias, const at::Tensor& weight) const {
    const at::Tensor before = weights_.at(prefix_ + "input_layernorm.weight").to(at::kFloat);
    const double root = std::sqrt(static_cast<double>(hidden_));
    const double largest =
        (map * before).norm().item<double>() * root + (bias.defined() ? bias.norm().item<double>() : 0);
    const double rms = largest / std::sqrt(static_cast<double>(weight.numel()));
    if (rms > kTooSmallToMatter * std::sqrt(kLatentNormEpsilon))
      throw DataError(cat(name_, ": ", prefix_, "self_attn.q_a_layernorm.weight: queries of a low rank that are ",
                          "normalised are not computed here; expected q_lora_rank = null"));
    return weight / std::sqrt(kLatentNormEpsilon);
  }

  /// Keys' biases without rotation add the same to all logits of a query; values' pass attention unchanged.
  void put_biases(const at::Tensor& value_up) {
    const at::Tensor bias = take("kv_a_proj_with_mqa.bias", {file_.latent + file_.rotated});
    const at::Tensor of_latent = bias.narrow(0, 0, file_.latent).to(at::kFloat);
    put("k_rope_proj.bias", bias.narrow(0, file_.latent, file_.rotated).index_select(0, rotated_rows()));
    put("k_up_proj.bias", at::zeros({heads_.heads * file_.content}, bias.options()));
    if (heads_.value_bias) {
      put("v_up_proj.bias", at::mv(value_up.to(at::kFloat), of_latent));
    } else if (of_latent.abs().max().item<double>() > 0) {
      throw DataError(cat(name_, ": ", prefix_, "self_attn.kv_a_proj_with_mqa.bias: a bias of a latent that is ",
                          "normalised is not computed here"));
    }
  }

  WeightMap& weights_;
  std::string prefix_;
  HeadFields heads_;
  std::int64_t hidden_;
  const DeepSeekFile& file_;
  const std::string& name_;
};

}  // namespace

WeightMap deepseek_weights(WeightMap weights, const ModelSpec& spec, const DeepSeekFile& file,
                           const std::string& name) {
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    if (!weights.contains(cat("model.layers.", layer, ".input_layernorm.weight")))
      throw DataError(cat(name, ": tensor model.layers.", layer, ".input_layernorm.weight is missing"));
    LayerTensors(weights, layer, spec, file, name).rename();
  }
  return weights;
}

}  // namespace mla
