#include "core/base/registry.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// The first step of MHA2MLA alone (arXiv 2502.14837, section 3.1): few pairs of each key head stay rotated, nothing is
/// approximated otherwise, and as much is cached as before.
class PartialRope final : public Pass {
 public:
  struct Options {
    Json rope = {{"name", "two_norm"}};
    static StrategyFields strategies() { return {{"rope", strategy_identity<RotationStrategy>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("rope", self.rope, "partial-RoPE strategy and its options: {\"name\": …}");
    }
  };

  PartialRope(Options options, const std::string& path) : rope_(options.rope, path) {}

  Requirements requirements() const override { return rope_.requirements(); }

  ModelSpec plan(const ModelSpec& spec) const override { return rope_.plan(spec); }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const ModelSpec source = decoder.spec();
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      if (!rope_.converts(source, layer)) return;
      const auto index = static_cast<std::size_t>(layer);
      const GroupedQueryAttention& attention = *as_grouped_query(*decoder.layers[index].attention);
      auto rotated = rope_.apply(source, attention, layer, inputs.statistics);
      report.kept = rotated->layout().kept;
      decoder.replace_attention(index, std::move(rotated));
    });
  }

 private:
  RopeStep rope_;
};

const Registration<Pass, PartialRope> kPartialRope("partial_rope", "partial RoPE alone, the first step of MHA2MLA");

}  // namespace
}  // namespace mla
