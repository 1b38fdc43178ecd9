#include <ATen/ATen.h>

#include <cmath>

#include "core/base/registry.h"
#include "core/compress/layers/head_directions.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

/// Where the directions of a group of KV heads come from.
enum class HeadMethod { kCalibrated, kWeights, kMean };
std::vector<std::pair<std::string, HeadMethod>> enum_names(HeadMethod) {
  return {{"calibrated", HeadMethod::kCalibrated}, {"svd", HeadMethod::kWeights}, {"mean", HeadMethod::kMean}};
}

/// On which side of their rotation keys are projected.
enum class KeySide { kRotated, kUnrotated };
std::vector<std::pair<std::string, KeySide>> enum_names(KeySide) {
  return {{"rotated", KeySide::kRotated}, {"unrotated", KeySide::kUnrotated}};
}

enum class HeadParts { kBoth, kKeys, kValues };
std::vector<std::pair<std::string, HeadParts>> enum_names(HeadParts) {
  return {{"both", HeadParts::kBoth}, {"keys", HeadParts::kKeys}, {"values", HeadParts::kValues}};
}

/// Fewer KV heads (SVD-a, arXiv 2406.07056, sections 3.2 to 3.4): neighbouring KV heads share one cached vector as wide
/// as a head, the coordinates of theirs in the leading eigenvectors of what they give on calibration data. Values are
/// folded into the projections around them. Keys that are rotated are projected after it, as published, and queries
/// with them at each step; or before it, which is ours: fewer directions hold more of them there, but they are rebuilt
/// and rotated whenever they are read. Controls: the left singular vectors of the weights (keys before rotation), and
/// the mean of the heads, which is ordinary grouped-query attention. With all heads kept a layer stays as it is.
class KvHeads final : public Pass {
 public:
  struct Options {
    std::int64_t kv_heads = 1;
    HeadMethod method = HeadMethod::kCalibrated;
    KeySide keys = KeySide::kRotated;
    HeadParts parts = HeadParts::kBoth;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("kv_heads", self.kv_heads, "KV heads that are cached afterwards; must divide those that there are");
      visit("method", self.method, "calibrated (eigenvectors on data) | svd (of the weights) | mean (of the heads)");
      visit("keys", self.keys, "calibrated: keys are projected after their rotation (rotated) or before (unrotated)");
      visit("parts", self.parts, "what is made fewer: both | keys | values");
    }
    void validate(const std::string& path) const {
      if (kv_heads < 1) throw ConfigError(cat(path, ".kv_heads = ", kv_heads, ": must be at least 1"));
      if (method == HeadMethod::kMean && parts != HeadParts::kBoth)
        throw ConfigError(cat(path, ".parts: the mean of heads is taken of keys and values together; expected both"));
      if (method != HeadMethod::kCalibrated && keys != KeySide::kRotated)
        throw ConfigError(cat(path, ".keys: method calibrated alone has a choice; leave it out"));
    }
  };

  KvHeads(Options options, const std::string& path) : options_(options), path_(path) {}

  Requirements requirements() const override {
    Requirements all;
    if (options_.method != HeadMethod::kCalibrated) return all;
    if (changes_keys()) all.insert(key_moment());
    if (changes_values()) all.insert(kValueMoment);
    return all;
  }

  ModelSpec plan(const ModelSpec& spec) const override {
    ModelSpec planned = spec;
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
      const std::string where = cat(path_, ": layer ", layer);
      const std::optional<HeadFields> heads = grouped_query_heads(spec.attention(layer));
      if (!heads) {
        throw ConfigError(cat(where, " is of kind ", spec.attention(layer).kind(),
                              "; expected grouped_query: make KV heads fewer before other passes"));
      }
      if (heads->kv_heads % options_.kv_heads != 0) {
        throw ConfigError(cat(path_, ".kv_heads = ", options_.kv_heads, ": must divide the ", heads->kv_heads,
                              " KV heads of layer ", layer));
      }
      if (heads->kv_heads == options_.kv_heads) continue;
      if (heads->qk_norm) {
        throw ConfigError(cat(where, ": ", spec.family,
                              " normalises its keys (QK-norm), each dim with a weight of its ",
                              "own, so that heads cannot be mixed; list fold_qk_norm before"));
      }
      expect_dense(spec, layer, "self_attn.", where);
      planned.layers[static_cast<std::size_t>(layer)].attention = compressed(*heads);
    }
    check_spec(planned, cat(path_, ": the model's layers"));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const ModelSpec planned = plan(decoder.spec());
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      const auto index = static_cast<std::size_t>(layer);
      const GroupedQueryAttention& source = *as_grouped_query(*decoder.layers[index].attention);
      if (source.heads().kv_heads == options_.kv_heads) return;
      auto made = options_.method == HeadMethod::kMean ? mean_of_heads(planned, layer, *decoder.layers[index].attention)
                                                       : projected(planned, layer, decoder, inputs, report);
      decoder.replace_attention(index, std::move(made));
    });
  }

 private:
  using Maps = std::map<std::string, std::pair<at::Tensor, at::Tensor>>;
  inline static const Requirement kValueMoment{Tap::kValue, "second_moment"};

  bool changes_keys() const { return options_.parts != HeadParts::kValues; }
  bool changes_values() const { return options_.parts != HeadParts::kKeys; }
  bool projects_rotated() const {
    return options_.method == HeadMethod::kCalibrated && options_.keys == KeySide::kRotated;
  }
  Requirement key_moment() const { return {projects_rotated() ? Tap::kKeyRotated : Tap::kKey, "second_moment"}; }

  std::shared_ptr<const AttentionSpec> compressed(HeadFields heads) const {
    if (options_.method == HeadMethod::kMean) {
      heads.kv_heads = options_.kv_heads;
      return std::make_shared<GroupedQuerySpec>(heads);
    }
    Json fields = write_fields(heads);
    fields["keys"] = !changes_keys() ? "rotated" : projects_rotated() ? "projected" : "rebuilt";
    fields["key_heads"] = changes_keys() ? options_.kv_heads : heads.kv_heads;
    fields["value_heads"] = changes_values() ? options_.kv_heads : heads.kv_heads;
    fields["key_width"] = fields["value_width"] = heads.head_dim;
    return attention_of_kind("split_latent", fields);
  }

  std::unique_ptr<Attention> mean_of_heads(const ModelSpec& planned, std::int64_t layer, Attention& attention) const {
    const GroupedQueryAttention& source = *as_grouped_query(attention);
    const HeadWeights weights = head_weights(source);
    const auto mean = [&](const at::Tensor& rows) {
      if (!rows.defined()) return rows;
      std::vector<std::int64_t> shape = rows.sizes().vec();
      shape[0] = options_.kv_heads * source.heads().head_dim;
      return rows.reshape({options_.kv_heads, -1, source.heads().head_dim, rows.numel() / rows.size(0)})
          .mean(1)
          .reshape(shape);
    };
    const Maps maps{{"k_proj", {mean(weights.key), mean(weights.key_bias)}},
                    {"v_proj", {mean(weights.value), mean(weights.value_bias)}}};
    return rebuild_attention(planned.attention(layer), planned, attention, maps, {});
  }

  /// Squares of activations, or of weights: all of them, and those that are lost.
  struct Energy {
    double all = 0, lost = 0;
  };

  /// The directions of all groups, one below the other: [kv_heads * head_dim, head_dim]. Adds to `energy`.
  at::Tensor directions(const at::Tensor& moment, const HeadFields& heads, Energy& energy) const {
    std::vector<at::Tensor> bases;
    for (std::int64_t group = 0; group < options_.kv_heads; ++group) {
      const at::Tensor gram = group_block(moment, group, options_.kv_heads);
      bases.push_back(leading_directions(gram, heads.head_dim).basis);
      const double all = gram.trace().item<double>();
      energy.all += all;
      energy.lost += all * std::pow(projection_error(gram, bases.back()), 2);
    }
    return at::cat(bases);
  }

  /// Coordinates of the rows of each group: [groups * head_dim, …] of [kv_heads * head_dim, …].
  at::Tensor coordinates(const at::Tensor& directions, const at::Tensor& rows) const {
    if (!rows.defined()) return rows;
    const at::Tensor maps = directions.view({options_.kv_heads, -1, directions.size(1)}).transpose(1, 2);
    const at::Tensor grouped = rows.reshape({options_.kv_heads, maps.size(2), -1});
    std::vector<std::int64_t> shape = rows.sizes().vec();
    shape[0] = options_.kv_heads * directions.size(1);
    return at::matmul(maps, grouped).reshape(shape);
  }

  std::unique_ptr<Attention> projected(const ModelSpec& planned, std::int64_t layer, Decoder& decoder,
                                       const PassInputs& inputs, LayerReport& report) const {
    Attention& attention = *decoder.layers[static_cast<std::size_t>(layer)].attention;
    const HeadFields heads = as_grouped_query(attention)->heads();
    const HeadWeights weights = head_weights(*as_grouped_query(attention));
    const bool calibrated = options_.method == HeadMethod::kCalibrated;
    const auto moment = [&](const Requirement& measured, const at::Tensor& matrix) {
      return calibrated ? inputs.statistics->at(measured, layer) : at::mm(matrix, matrix.t());
    };
    Maps maps;
    Energy of_keys, of_values;
    if (changes_keys()) {
      const at::Tensor basis = directions(moment(key_moment(), weights.key).to(weights.key.device()), heads, of_keys);
      if (projects_rotated()) {
        maps["k_up_proj"] = {basis, {}};
      } else {
        // P P^T b stands behind the up-projection, where the kind has its bias.
        const at::Tensor bias = coordinates(basis, weights.key_bias);
        maps["k_proj"] = {coordinates(basis, weights.key), {}};
        maps["k_up_proj"] = {basis, bias.defined() ? spread(basis, bias) : bias};
      }
    }
    if (changes_values()) {
      const at::Tensor basis =
          directions(moment(kValueMoment, weights.value).to(weights.value.device()), heads, of_values);
      const at::Tensor& output_bias = as_grouped_query(attention)->weights().output.bias();
      maps["v_proj"] = {coordinates(basis, weights.value), coordinates(basis, weights.value_bias)};
      maps["o_proj"] = {absorb_directions(weights.output, basis, heads), output_bias};
    }
    report.error = {relative(of_keys.lost + of_values.lost, of_keys.all + of_values.all),
                    relative(of_keys.lost, of_keys.all), relative(of_values.lost, of_values.all)};
    return rebuild_attention(planned.attention(layer), planned, attention, maps, inputs.weights);
  }

  /// The vector of all heads with these coordinates: [kv_heads * head_dim].
  at::Tensor spread(const at::Tensor& basis, const at::Tensor& coordinates) const {
    const at::Tensor maps = basis.view({options_.kv_heads, -1, basis.size(1)});
    return at::matmul(maps, coordinates.view({options_.kv_heads, -1, 1})).flatten();
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, KvHeads> kKvHeads(
    "kv_heads", "fewer KV heads by calibrated eigenvectors, weight SVD or mean pooling (SVD-a, arXiv 2406.07056)");

}  // namespace
}  // namespace mla
