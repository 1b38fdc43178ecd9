#include <ATen/core/grad_mode.h>

#include "core/base/registry.h"
#include "core/compress/calibration/layer_inputs.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// MHA2MLA (arXiv 2502.14837): keep the rotation of a few pairs per key head, and replace the position-free keys and
/// the values by a low-rank latent. Weights only; nothing is trained here. Layers that have no keys stay as they are.
class Mha2Mla final : public Pass {
 public:
  struct Options {
    Json rope = {{"name", "two_norm"}};
    Json low_rank = {{"name", "joint_svd"}};
    Json allocate = {{"name", "uniform"}};
    MeasuredInputs inputs = MeasuredInputs::kFound;
    static StrategyFields strategies() {
      return {{"rope", strategy_identity<RotationStrategy>},
              {"low_rank", strategy_identity<Factorizer>},
              {"allocate", strategy_identity<Allocator>}};
    }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("rope", self.rope, "partial-RoPE strategy and its options: {\"name\": …}");
      visit("low_rank", self.low_rank, "low-rank strategy and its options: {\"name\": …}");
      visit("allocate", self.allocate, "how layers share the widths stated there, all together: {\"name\": …}");
      visit("inputs", self.inputs, kMeasuredInputsHelp);
    }
  };

  Mha2Mla(Options options, const std::string& path)
      : options_(std::move(options)),
        rope_(options_.rope, path),
        low_rank_(options_.low_rank, options_.allocate, path) {
    measured_ = rope_.requirements();
    measured_.merge(low_rank_.requirements());
    if (walks()) low_rank_.check_walk(measured_, path);
  }

  Requirements requirements() const override { return walks() ? Requirements{} : measured_; }
  bool reads_rows() const override { return walks(); }

  ModelSpec plan(const ModelSpec& spec) const override { return low_rank_.plan(rope_.plan(spec)); }

  void announce(const ModelSpec& spec, DecompositionStore& store) const override {
    if (!walks()) low_rank_.announce(rope_.plan(spec), store);
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const ModelSpec source = decoder.spec(), partial = rope_.plan(source);
    DecompositionStore kept;  // for widths that depend on all layers
    const auto rotated = [&](std::int64_t layer, const Statistics* statistics) {
      const Attention& attention = *decoder.layers[static_cast<std::size_t>(layer)].attention;
      return rope_.apply(source, *as_grouped_query(attention), layer, statistics);
    };
    // Layer by layer, so that no second copy of all layers is needed, unless widths depend on them all.
    std::vector<std::int64_t> widths(source.layers.size(), 0);
    if (low_rank_.measures_widths()) {
      const c10::InferenceMode off(false);
      std::vector<std::unique_ptr<LatentAttention>> layers(source.layers.size());
      std::vector<const LatentAttention*> attentions;
      for (std::size_t i = 0; i < layers.size(); ++i) {
        const auto layer = static_cast<std::int64_t>(i);
        if (rope_.converts(source, layer)) layers[i] = rotated(layer, inputs.statistics);
        attentions.push_back(layers[i].get());
      }
      widths = low_rank_.widths(partial, attentions, inputs, inputs.store ? *inputs.store : kept);
    }
    LayerInputs given(decoder, inputs, measured_, options_.inputs);
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      if (!rope_.converts(source, layer)) return;
      const auto index = static_cast<std::size_t>(layer);
      const PassInputs& now = given.of(layer);
      DecompositionStore own;  // of this layer alone: let go of before the next one
      DecompositionStore& store = now.store ? *now.store : low_rank_.measures_widths() ? kept : own;
      const auto partly = rotated(layer, now.statistics);
      decoder.replace_attention(index, low_rank_.apply(partial, *partly, layer, widths[index], now, store, report));
    });
  }

  bool measures_shapes() const override { return low_rank_.measures_widths(); }

  /// Layers that are measured while the ones before are converted go through both steps at once.
  std::vector<Json> steps() const override {
    if (walks()) return {};
    return {{{"name", "partial_rope"}, {"rope", options_.rope}},
            {{"name", "low_rank"}, {"low_rank", options_.low_rank}, {"allocate", options_.allocate}}};
  }

 private:
  bool walks() const { return options_.inputs == MeasuredInputs::kConverted; }

  Options options_;
  RopeStep rope_;
  LowRankStep low_rank_;
  Requirements measured_;
};

const Registration<Pass, Mha2Mla> kMha2Mla("mha2mla",
                                           "MHA2MLA: partial RoPE and a low-rank latent for keys and values");

}  // namespace
}  // namespace mla
