#include "core/base/registry.h"
#include "core/compress/calibration/layer_inputs.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// The second step of MHA2MLA alone (arXiv 2502.14837, section 3.2): a low-rank latent for the position-free keys and
/// the values of layers that have partial RoPE already, from the weights that they have now.
class LowRank final : public Pass {
 public:
  struct Options {
    Json low_rank = {{"name", "joint_svd"}};
    Json allocate = {{"name", "uniform"}};
    MeasuredInputs inputs = MeasuredInputs::kFound;
    static StrategyFields strategies() {
      return {{"low_rank", strategy_identity<Factorizer>}, {"allocate", strategy_identity<Allocator>}};
    }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("low_rank", self.low_rank, "low-rank strategy and its options: {\"name\": …}");
      visit("allocate", self.allocate, "how layers share the widths stated there, all together: {\"name\": …}");
      visit("inputs", self.inputs, kMeasuredInputsHelp);
    }
  };

  LowRank(Options options, const std::string& path)
      : path_(path),
        inputs_(options.inputs),
        low_rank_(options.low_rank, options.allocate, path),
        measured_(low_rank_.requirements()) {
    if (walks()) low_rank_.check_walk(measured_, path);
  }

  Requirements requirements() const override { return walks() ? Requirements{} : measured_; }
  bool reads_rows() const override { return walks(); }

  ModelSpec plan(const ModelSpec& spec) const override {
    bool any = false;
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) any = converts(spec, layer) || any;
    if (!any) throw ConfigError(cat(path_, ": no layer has partial RoPE; let partial_rope come first"));
    return low_rank_.plan(spec);
  }

  void announce(const ModelSpec& spec, DecompositionStore& store) const override {
    if (!walks()) low_rank_.announce(spec, store);
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const ModelSpec source = decoder.spec();
    DecompositionStore kept;  // for widths that depend on all layers
    std::vector<const LatentAttention*> attentions;
    for (std::size_t i = 0; i < source.layers.size(); ++i) {
      const bool converted = converts(source, static_cast<std::int64_t>(i));
      attentions.push_back(converted ? as_latent(*decoder.layers[i].attention) : nullptr);
    }
    const std::vector<std::int64_t> widths =
        low_rank_.widths(source, attentions, inputs, inputs.store ? *inputs.store : kept);
    LayerInputs given(decoder, inputs, measured_, inputs_);
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      if (!converts(source, layer)) return;
      const auto index = static_cast<std::size_t>(layer);
      const PassInputs& now = given.of(layer);
      DecompositionStore own;  // of this layer alone: let go of before the next one
      DecompositionStore& store = now.store ? *now.store : low_rank_.measures_widths() ? kept : own;
      decoder.replace_attention(index,
                                low_rank_.apply(source, *attentions[index], layer, widths[index], now, store, report));
    });
  }

  bool measures_shapes() const override { return low_rank_.measures_widths(); }

 private:
  bool walks() const { return inputs_ == MeasuredInputs::kConverted; }

  /// False for layers without keys of their own.
  bool converts(const ModelSpec& spec, std::int64_t layer) const {
    const AttentionSpec& attention = spec.attention(layer);
    const LatentLayout* layout = latent_layout(attention);
    if (layout && layout->is_partial_rope()) return true;
    if (attention.rotated_pairs() == 0 && !attention.latent_width()) return false;
    throw ConfigError(cat(path_, ": layer ", layer, " is of kind ", attention.kind(),
                          layout ? " and has factors already" : "", "; expected partial RoPE without a low-rank step"));
  }

  std::string path_;
  MeasuredInputs inputs_;
  LowRankStep low_rank_;
  Requirements measured_;
};

const Registration<Pass, LowRank> kLowRank(
    "low_rank", "a low-rank latent for layers with partial RoPE, the second step of MHA2MLA");

}  // namespace
}  // namespace mla
