#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "core/base/registry.h"
#include "core/compress/latent_assembly.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// MHA2MLA (arXiv 2502.14837): keep the rotation of a few pairs per key head, and replace the position-free keys and
/// the values by a low-rank latent. Weights only; nothing is trained here.
class Mha2Mla final : public Pass {
 public:
  struct Options {
    Json rope = {{"name", "two_norm"}};
    Json low_rank = {{"name", "joint_svd"}};
    static StrategyFields strategies() {
      return {{"rope", strategy_identity<RopeSelector>}, {"low_rank", strategy_identity<Factorizer>}};
    }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("rope", self.rope, "partial-RoPE strategy and its options: {\"name\": …}");
      visit("low_rank", self.low_rank, "low-rank strategy and its options: {\"name\": …}");
    }
  };

  Mha2Mla(Options options, const std::string& path)
      : options_(std::move(options)),
        path_(path),
        selector_(Registry<RopeSelector>::instance().make(options_.rope, path + ".rope")),
        factorizer_(Registry<Factorizer>::instance().make(options_.low_rank, path + ".low_rank")) {}

  bool needs_statistics() const override { return selector_->needs_norms(); }

  CompressionPlan plan(const Geometry& geometry) const override {
    check(geometry);
    const FactorGeometry shapes = factor_geometry(geometry);
    CompressionPlan plan;
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer)
      plan.layers.push_back(plan_layer(layer, geometry, shapes));
    plan.source_cached_elements = geometry.layers * geometry.cached_elements();
    plan.source_parameters = count_parameters(geometry).total();
    plan.parameters =
        plan.source_parameters - geometry.layers * (attention_parameters(geometry) + source_norms(geometry));
    for (const LayerPlan& layer : plan.layers) plan.parameters += layer.parameters;
    return plan;
  }

  void announce(const Geometry& geometry, DecompositionStore& store) const override {
    if (!factorizer_->decomposes()) return;
    const FactorGeometry shapes = factor_geometry(geometry);
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer) {
      store.announce(kind_of(shapes.pairs.at(static_cast<std::size_t>(layer))), layer,
                     factorizer_->latent_width(layer, shapes));
    }
  }

  CompressionReport apply(Decoder& decoder, const PassInputs& inputs) const override {
    expects(!needs_statistics() || inputs.statistics, "this pass needs calibration statistics");
    return for_each_layer(decoder, inputs, [&](std::int64_t layer) {
      const auto* source = dynamic_cast<const GroupedQueryAttention*>(attention_of(decoder, layer).get());
      if (!source) throw ConfigError(cat(path_, ": layer ", layer, " is converted already; convert the source model"));
      const PairNorms* norms =
          needs_statistics() ? &inputs.statistics->layers.at(static_cast<std::size_t>(layer)) : nullptr;
      const KeptPairs kept = selector_->select(layer, head_geometry(decoder.geometry), norms);
      return add_low_rank(*assemble_partial_rope(*source, kept, norms_per_head(layer, decoder.geometry)), decoder,
                          layer, inputs, inputs.store);
    });
  }

  std::unique_ptr<Pass> partial_rope() const override {
    return std::make_unique<Mha2Mla>(Options{options_.rope, {{"name", "none"}}}, path_);
  }

  CompressionReport add_low_rank(Decoder& decoder, const PassInputs& inputs) const override {
    return for_each_layer(decoder, inputs, [&](std::int64_t layer) {
      const auto* partial = dynamic_cast<const LatentAttention*>(attention_of(decoder, layer).get());
      expects(partial && partial->is_partial_rope(), "a model with partial RoPE and no low-rank step");
      return add_low_rank(*partial, decoder, layer, inputs, nullptr);
    });
  }

 private:
  static std::unique_ptr<Attention>& attention_of(Decoder& decoder, std::int64_t layer) {
    return decoder.layers.at(static_cast<std::size_t>(layer)).attention;
  }

  template <class Convert>
  CompressionReport for_each_layer(Decoder& decoder, const PassInputs& inputs, const Convert& convert) const {
    const c10::InferenceMode off(false);  // new weights may be trained later
    CompressionReport report{"mha2mla", plan(decoder.geometry), {}};
    for (std::int64_t layer = 0; layer < decoder.geometry.layers; ++layer) {
      const auto start = std::chrono::steady_clock::now();
      report.layers.push_back(convert(layer));
      report.layers.back().plan = report.plan.layers.at(static_cast<std::size_t>(layer));
      report.layers.back().seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (inputs.progress) inputs.progress(layer);
    }
    return report;
  }

  static HeadGeometry head_geometry(const Geometry& geometry) {
    return {geometry.layers, geometry.heads, geometry.kv_heads, geometry.head_dim};
  }

  FactorGeometry factor_geometry(const Geometry& geometry) const {
    FactorGeometry shapes{geometry.layers, geometry.hidden, geometry.kv_heads, geometry.head_dim, {}};
    for (std::int64_t layer = 0; layer < geometry.layers; ++layer) {
      shapes.pairs.push_back(selector_->pairs(layer, head_geometry(geometry)));
    }
    return shapes;
  }

  void check(const Geometry& geometry) const {
    selector_->check(head_geometry(geometry), path_ + ".rope");
    if (geometry.qk_norm && factorizer_->compresses_keys()) {
      throw ConfigError(
          cat(path_, ".low_rank.name = ", options_.low_rank.at("name").get<std::string>(), ": ", geometry.family,
              " normalises its keys (QK-norm), which is not linear in the hidden state, so that keys cannot be "
              "rebuilt from a low-rank latent; exact here: none, value_svd"));
    }
    factorizer_->check(factor_geometry(geometry), path_ + ".low_rank");
  }

  static std::int64_t source_norms(const Geometry& geometry) { return geometry.qk_norm ? 2 * geometry.head_dim : 0; }

  LayerPlan plan_layer(std::int64_t layer, const Geometry& geometry, const FactorGeometry& shapes) const {
    LayerPlan plan;
    plan.pairs = shapes.pairs.at(static_cast<std::size_t>(layer));
    plan.latent_width = factorizer_->latent_width(layer, shapes);
    const std::int64_t rope_elements = geometry.kv_heads * 2 * plan.pairs;
    plan.cached_elements = rope_elements + plan.latent_width;
    const std::int64_t key_values = 2 * geometry.hidden * geometry.kv_heads * geometry.head_dim;
    plan.parameters = attention_parameters(geometry) - key_values + geometry.hidden * rope_elements +
                      factorizer_->parameters(layer, shapes);
    if (geometry.qk_norm) {
      plan.parameters += geometry.head_dim * (norms_per_head(layer, geometry) ? geometry.heads + geometry.kv_heads : 2);
    }
    return plan;
  }

  /// Heads that may keep different pairs need QK-norm weights of their own; decided without looking at data.
  bool norms_per_head(std::int64_t layer, const Geometry& geometry) const {
    if (needs_statistics()) return true;
    const KeptPairs kept = selector_->select(layer, head_geometry(geometry), nullptr);
    return std::any_of(kept.begin(), kept.end(), [&](const auto& pairs) { return pairs != kept.front(); });
  }

  /// The store's kind of a layer's decomposition.
  std::string kind_of(std::int64_t pairs) const {
    Json options = options_.low_rank;
    for (const char* width : {"d_kv", "latent"}) options.erase(width);
    return Json{pairs, options}.dump();
  }

  /// Puts a layer with partial RoPE into the decoder, its keys and values factored. `store` may be null.
  LayerReport add_low_rank(const LatentAttention& partial, Decoder& decoder, std::int64_t layer,
                           const PassInputs& inputs, DecompositionStore* store) const {
    LayerReport report;
    report.kept = partial.layout().kept;
    const std::int64_t width = factorizer_->latent_width(layer, factor_geometry(decoder.geometry));
    const std::string selection = Json{report.kept, c10::toString(inputs.arithmetic)}.dump();
    DecompositionStore own;
    const Decomposition& decomposition =
        (store ? *store : own)
            .get(kind_of(std::ssize(report.kept.front())), layer, selection, width, [&](std::int64_t largest) {
              const FactorInputs matrices = factor_inputs(partial, inputs.arithmetic);
              return factorizer_->decompose(matrices.key, matrices.value, largest);
            });
    Factorization factors = decomposition.truncate(width);
    attention_of(decoder, layer) = assemble_low_rank(partial, factors, inputs.weights);
    report.singular_values = std::move(factors.singular_values);
    report.value_singular_values = std::move(factors.value_singular_values);
    report.error = factors.error;
    return report;
  }

  Options options_;
  std::string path_;
  std::unique_ptr<RopeSelector> selector_;
  std::unique_ptr<Factorizer> factorizer_;
};

const Registration<Pass, Mha2Mla> kMha2Mla("mha2mla",
                                           "MHA2MLA: partial RoPE and a low-rank latent for keys and values");

}  // namespace
}  // namespace mla
