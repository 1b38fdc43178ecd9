#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/attention/linear.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// How far from 1 the weights of a merge may sum up, for rounded decimals.
constexpr double kSumTolerance = 1e-6;

/// Neighbouring layers that become one.
struct MergeGroup {
  std::vector<std::int64_t> layers;
  std::vector<double> weights;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("layers", self.layers, "neighbouring layers, ascending; the first one's place and norms are kept");
    visit("weights", self.weights, "of each in the average, summing up to 1; empty: equal ones");
  }
};

/// Pruning via Merging, its mechanical part (MKA, arXiv 2406.16330, equation 9): linear maps of neighbouring layers are
/// averaged with given weights into the first of them, whose norms are kept, and the others go; or layers are dropped.
/// Which layers, and with which weights, a measure of similarity says. Before a conversion: factors of different layers
/// have bases of their own, of which no average exists.
class MergeLayers final : public Pass {
 public:
  struct Options {
    std::vector<MergeGroup> merge;
    std::vector<std::int64_t> drop;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("merge", self.merge, "groups of layers that become one: [{\"layers\": [3, 4], \"weights\": [0.6, 0.4]}]");
      visit("drop", self.drop, "layers that go without a trace");
    }
  };

  MergeLayers(Options options, const std::string& path) : options_(std::move(options)), path_(path) {}

  ModelSpec plan(const ModelSpec& spec) const override {
    check(spec);
    ModelSpec planned = spec;
    planned.layers.clear();
    const std::vector<std::size_t> gone = removed();
    for (std::size_t i = 0; i < spec.layers.size(); ++i) {
      if (std::find(gone.begin(), gone.end(), i) == gone.end()) planned.layers.push_back(spec.layers[i]);
    }
    if (planned.layers.empty()) throw ConfigError(cat(path_, ".drop: no layer would be left"));
    check_spec(planned, cat(path_, ": the layers that are left"));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    check(decoder.spec());
    const c10::InferenceMode off(false);  // new weights may be trained later
    for (const MergeGroup& group : options_.merge) merge(decoder, group);
    decoder.remove_layers(removed());
    return for_each_layer(decoder, inputs, [](std::int64_t, LayerReport&) {});
  }

 private:
  static double weight_of(const MergeGroup& group, std::size_t index) {
    return group.weights.empty() ? 1 / static_cast<double>(group.layers.size()) : group.weights[index];
  }

  std::vector<std::size_t> removed() const {
    std::vector<std::size_t> gone(options_.drop.begin(), options_.drop.end());
    for (const MergeGroup& group : options_.merge)
      gone.insert(gone.end(), group.layers.begin() + 1, group.layers.end());
    return gone;
  }

  void check(const ModelSpec& spec) const {
    std::vector<std::int64_t> seen;
    const auto see = [&](std::int64_t layer, const std::string& where) {
      if (layer < 0 || layer >= spec.layer_count())
        throw ConfigError(cat(where, " = ", layer, ": expected a layer from 0 to ", spec.layer_count() - 1));
      if (std::find(seen.begin(), seen.end(), layer) != seen.end())
        throw ConfigError(cat(where, " = ", layer, ": this layer is named twice"));
      seen.push_back(layer);
    };
    for (std::size_t g = 0; g < options_.merge.size(); ++g) {
      const MergeGroup& group = options_.merge[g];
      const std::string where = cat(path_, ".merge[", g, "]");
      for (std::size_t k = 0; k < group.layers.size(); ++k) see(group.layers[k], cat(where, ".layers[", k, "]"));
      check_group(group, spec, where);
    }
    for (std::size_t k = 0; k < options_.drop.size(); ++k) see(options_.drop[k], cat(path_, ".drop[", k, "]"));
  }

  static void check_group(const MergeGroup& group, const ModelSpec& spec, const std::string& where) {
    if (group.layers.size() < 2) throw ConfigError(cat(where, ".layers: expected two layers or more"));
    if (!group.weights.empty()) {
      double sum = 0;
      for (const double weight : group.weights) sum += weight;
      if (group.weights.size() != group.layers.size())
        throw ConfigError(cat(where, ".weights: ", group.weights.size(), " for ", group.layers.size(), " layers"));
      if (!(std::abs(sum - 1) <= kSumTolerance))
        throw ConfigError(cat(where, ".weights: sum up to ", sum, ", not to 1"));
    }
    const LayerSpec& first = spec.layers.at(static_cast<std::size_t>(group.layers.front()));
    for (std::size_t k = 1; k < group.layers.size(); ++k) {
      const std::string layer = cat(where, ".layers[", k, "] = ", group.layers[k]);
      if (group.layers[k] != group.layers[k - 1] + 1)
        throw ConfigError(cat(layer, ": is not the neighbour of ", group.layers[k - 1]));
      if (weight_of(group, 0) == 1 && weight_of(group, k) == 0) continue;  // dropped, not averaged
      for (const std::int64_t averaged : {group.layers.front(), group.layers[k]})
        expect_dense(spec, averaged, "", where);
      const LayerSpec& other = spec.layers.at(static_cast<std::size_t>(group.layers[k]));
      if (!(first.feed_forward == other.feed_forward) || !first.attention->can_be_averaged(*other.attention)) {
        throw ConfigError(cat(layer, ": cannot be averaged with layer ", group.layers.front(),
                              ": they differ in shape, or each has a basis of its own; merge before other passes"));
      }
    }
  }

  /// The linear maps of a block, weights and biases, by name.
  static TensorMap linear_maps(DecoderLayer& layer, const AttentionSpec& attention, const ModelFrame& frame) {
    TensorMap maps;
    const auto take = [&](const std::string& name, at::Tensor& tensor) { maps[name] = tensor; };
    layer.attention->visit_parameters(take);
    for (const Parameter& parameter : attention.parameters(frame)) {
      if (parameter.role == ParameterRole::kNorm) maps.erase(parameter.name);
    }
    layer.gate.visit("gate", take);
    layer.up.visit("up", take);
    layer.down.visit("down", take);
    return maps;
  }

  static void merge(Decoder& decoder, const MergeGroup& group) {
    const ModelSpec& spec = decoder.spec();
    const auto maps_of = [&](std::int64_t layer) {
      return linear_maps(decoder.layers[static_cast<std::size_t>(layer)], spec.attention(layer), spec);
    };
    if (weight_of(group, 0) == 1) return;
    TensorMap mean;
    for (std::size_t k = 0; k < group.layers.size(); ++k) {
      for (const auto& [name, tensor] : maps_of(group.layers[k])) {
        const at::Tensor part = tensor.detach().to(at::kDouble) * weight_of(group, k);
        mean[name] = mean[name].defined() ? mean[name] + part : part;
      }
    }
    DecoderLayer& first = decoder.layers[static_cast<std::size_t>(group.layers.front())];
    const auto put = [&](const std::string& name, at::Tensor& tensor) {
      if (const auto found = mean.find(name); found != mean.end()) tensor = found->second.to(tensor.scalar_type());
    };
    first.attention->visit_parameters(put);
    first.gate.visit("gate", put);
    first.up.visit("up", put);
    first.down.visit("down", put);
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, MergeLayers> kMergeLayers("merge_layers",
                                                   "drops layers, or averages neighbouring ones by given weights");

}  // namespace
}  // namespace mla
