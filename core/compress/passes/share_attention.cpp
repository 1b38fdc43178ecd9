#include <algorithm>

#include "core/attention/grouped_query.h"
#include "core/base/registry.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// Shared Attention (arXiv 2407.12866, as in its code): a layer of a span weighs its values with the attention weights
/// of the nearest layer before it that is in no span. Its queries and keys are dropped, and only values are cached.
/// Which layers may share is for the user to say; the paper takes late ones, without the last.
class ShareAttention final : public Pass {
 public:
  struct Options {
    std::vector<std::int64_t> layers;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("layers", self.layers, "layers that reuse the attention weights of the nearest other layer before them");
    }
  };

  ShareAttention(Options options, const std::string& path) : options_(std::move(options)), path_(path) {}

  ModelSpec plan(const ModelSpec& spec) const override {
    ModelSpec planned = spec;
    for (std::size_t k = 0; k < options_.layers.size(); ++k) {
      const std::int64_t layer = options_.layers[k];
      const std::string where = cat(path_, ".layers[", k, "] = ", layer);
      if (layer < 1 || layer >= spec.layer_count())
        throw ConfigError(cat(where, ": expected a layer from 1 to ", spec.layer_count() - 1));
      if (std::count(options_.layers.begin(), options_.layers.end(), layer) > 1)
        throw ConfigError(cat(where, ": is listed twice"));
      const std::optional<HeadFields> heads = grouped_query_heads(spec.attention(layer));
      if (!heads) {
        throw ConfigError(cat(where, ": is of kind ", spec.attention(layer).kind(), "; expected grouped_query: share ",
                              "attention before other passes"));
      }
      expect_dense(spec, layer, "self_attn.", where);
      planned.layers[static_cast<std::size_t>(layer)].attention = shared(*heads);
    }
    check_spec(planned, cat(path_, ": the model's layers"));
    return planned;
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const ModelSpec planned = plan(decoder.spec());
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport&) {
      if (std::count(options_.layers.begin(), options_.layers.end(), layer) == 0) return;
      const auto index = static_cast<std::size_t>(layer);
      LayerWeights weights;
      decoder.layers[index].attention->visit_weights(
          {[&](const std::string& name, Linear& map) { weights.add(name, map); },
           [&](const std::string& name, at::Tensor& tensor) { weights.add(name, tensor); }});
      decoder.replace_attention(index, planned.attention(layer).build(planned, std::move(weights)));
    });
  }

 private:
  /// The layer that keeps values and output projection of one with these heads.
  static std::shared_ptr<const AttentionSpec> shared(HeadFields heads) {
    heads.window = 0;
    heads.query_bias = heads.key_bias = heads.qk_norm = heads.qk_norm_whole = false;
    Json config = write_fields(heads);
    config["name"] = "shared_attention";
    return Registry<AttentionSpec>::instance().make(config, "shared_attention");
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, ShareAttention> kShareAttention(
    "share_attention", "Shared Attention: layers reuse the attention weights of one before them and cache values only");

}  // namespace
}  // namespace mla
