#include "core/model/mha2mla_weights.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/model/mha2mla_config.h"

namespace mla {
namespace {

/// The tensors of one layer.
class Mha2MlaTensors {
 public:
  Mha2MlaTensors(WeightMap& weights, const std::string& prefix, const LatentLayout& layout, const HeadFields& heads,
                 std::int64_t hidden, const std::string& name)
      : weights_(weights), prefix_(prefix), layout_(layout), heads_(heads), hidden_(hidden), name_(name) {}

  void rename_main() {
    put_query(main_query_rows());
    move("k_r_proj.weight", "k_rope_proj.weight", {rope_rows(), hidden_});
    if (heads_.key_bias) move("k_r_proj.bias", "k_rope_proj.bias", {rope_rows()});
    const bool joint = layout_.key.begin == layout_.value.begin;
    const auto part = [&](const char* down, const char* up, bool has_up, std::int64_t rows) {
      return take(cat("kv_proj.", has_up ? down : up, ".weight"), {rows, hidden_});
    };
    const at::Tensor down = joint ? take("kv_proj.down_kv.weight", {layout_.latent_width, hidden_})
                                  : at::cat({part("down_k", "up_k", layout_.key_up, layout_.key.width),
                                             part("down_v", "up_v", layout_.value_up, layout_.value.width)});
    put("kv_down_proj.weight", down);
    if (layout_.key_up) move("kv_proj.up_k.weight", "k_up_proj.weight", {key_rows(), layout_.key.width});
    if (layout_.value_up) move("kv_proj.up_v.weight", "v_up_proj.weight", {value_rows(), layout_.value.width});
    if (heads_.key_bias) move("kv_proj.up_k.bias", "k_up_proj.bias", {key_rows()});
    if (heads_.value_bias) move("kv_proj.up_v.bias", "v_up_proj.bias", {value_rows()});
  }

  void rename_release() {
    put_query(release_query_rows());
    move("W_k_r.weight", "k_rope_proj.weight", {rope_rows(), hidden_});
    at::Tensor down = take("W_down_k.weight", {layout_.key.width, hidden_});
    if (layout_.value.begin > 0) down = at::cat({down, take("W_down_v.weight", {layout_.value.width, hidden_})});
    put("kv_down_proj.weight", down);
    move("W_up_k.weight", "k_up_proj.weight", {key_rows(), layout_.key.width});
    move("W_up_v.weight", "v_up_proj.weight", {value_rows(), layout_.value.width});
  }

 private:
  std::int64_t rope_rows() const { return heads_.kv_heads * layout_.rope_width(); }
  std::int64_t key_rows() const { return heads_.kv_heads * layout_.content_width; }
  std::int64_t value_rows() const { return heads_.kv_heads * layout_.value_width; }

  /// All heads' rotated rows come first, then all heads' others.
  std::vector<std::int64_t> main_query_rows() const {
    const std::int64_t rope = layout_.rope_width(), content = layout_.content_width, begin = heads_.heads * rope;
    std::vector<std::int64_t> rows;
    for (std::int64_t head = 0; head < heads_.heads; ++head) {
      for (std::int64_t i = 0; i < rope; ++i) rows.push_back(head * rope + i);
      for (std::int64_t i = 0; i < content; ++i) rows.push_back(begin + head * content + i);
    }
    return rows;
  }

  /// Rows stand where the source has them.
  std::vector<std::int64_t> release_query_rows() const {
    const std::int64_t half = heads_.head_dim / 2;
    std::vector<std::int64_t> rows;
    for (std::int64_t head = 0; head < heads_.heads; ++head) {
      const auto& kept = layout_.kept[static_cast<std::size_t>(head / heads_.group())];
      const auto add = [&](bool rotated) {
        for (std::int64_t dim = 0; dim < heads_.head_dim; ++dim) {
          const bool keeps = std::find(kept.begin(), kept.end(), dim % half) != kept.end();
          if (keeps == rotated) rows.push_back(head * heads_.head_dim + dim);
        }
      };
      add(true);
      add(false);
    }
    return rows;
  }

  void put_query(const std::vector<std::int64_t>& rows) {
    const at::Tensor index = at::tensor(rows, at::kLong);
    const auto count = static_cast<std::int64_t>(rows.size());
    put("q_proj.weight", take("q_proj.weight", {count, hidden_}).index_select(0, index));
    if (heads_.query_bias) put("q_proj.bias", take("q_proj.bias", {count}).index_select(0, index));
  }

  at::Tensor take(const std::string& tensor, const std::vector<std::int64_t>& shape) {
    auto node = weights_.extract(prefix_ + tensor);
    if (node.empty()) throw DataError(cat(name_, ": tensor ", prefix_, tensor, " is missing"));
    if (node.mapped().sizes() != at::IntArrayRef(shape))
      throw DataError(cat(name_, ": ", prefix_, tensor, ": expected shape ", at::IntArrayRef(shape), ", found ",
                          node.mapped().sizes()));
    return node.mapped();
  }
  void put(const std::string& tensor, const at::Tensor& values) {
    weights_.insert_or_assign(prefix_ + tensor, values.contiguous());
  }
  void move(const std::string& from, const std::string& to, const std::vector<std::int64_t>& shape) {
    put(to, take(from, shape));
  }

  WeightMap& weights_;
  const std::string& prefix_;
  const LatentLayout& layout_;
  const HeadFields& heads_;
  std::int64_t hidden_;
  const std::string& name_;
};

}  // namespace

WeightMap mha2mla_weights(WeightMap weights, const ModelSpec& spec, const Json& config, const std::string& name) {
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    const LatentLayout* layout = latent_layout(spec.attention(layer));
    if (!layout) continue;  // a baseline
    const HeadFields heads = *spec.attention(layer).heads();
    const std::string prefix = cat("model.layers.", layer, ".self_attn.");
    Mha2MlaTensors tensors(weights, prefix, *layout, heads, spec.hidden, name);
    if (mha2mla_form(config) == Mha2MlaForm::kMain) {
      tensors.rename_main();
    } else {
      tensors.rename_release();
    }
  }
  return weights;
}

}  // namespace mla
