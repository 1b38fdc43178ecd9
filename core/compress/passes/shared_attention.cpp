#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// Shared Attention with its choice of layers (arXiv 2407.12866, section 3): a span whose attention weights, on
/// calibration data, are most like those of the layer before it, which it reuses. The span is one run of layers, never
/// the first, and by default not the last, as in the paper's examples. share_attention makes the layers.
class ShareSimilarAttention final : public Pass {
 public:
  struct Options {
    std::int64_t count = 1;
    std::vector<std::int64_t> layers;
    bool keep_last = true;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("count", self.count, "layers of the span, chosen by the similarity of attention weights");
      visit("layers", self.layers, "layers that reuse attention weights, instead; none: count decides");
      visit("keep_last", self.keep_last, "the last layer is in no span that is chosen");
    }
    void validate(const std::string& path) const {
      if (count < 0) throw ConfigError(cat(path, ".count = ", count, ": must not be negative"));
    }
  };

  ShareSimilarAttention(Options options, const std::string& path) : options_(std::move(options)), path_(path) {}

  Requirements requirements() const override { return chooses() ? Requirements{kSimilarity} : Requirements{}; }
  bool measures_shapes() const override { return chooses(); }

  ModelSpec plan(const ModelSpec& spec) const override {
    if (!options_.layers.empty()) return sharing(options_.layers)->plan(spec);
    const std::int64_t behind = spec.layer_count() - (options_.keep_last ? 2 : 1);
    if (options_.count > std::max<std::int64_t>(0, behind)) {
      throw ConfigError(cat(path_, ".count = ", options_.count, ": at most ", std::max<std::int64_t>(0, behind), " of ",
                            spec.layer_count(), " layers can reuse weights: the first computes them",
                            options_.keep_last ? ", and the last is kept" : ""));
    }
    if (!chooses()) return spec;
    sharing(run(1, spec.layer_count() - 1))->plan(spec);  // each of them may be chosen
    return sharing(run(behind - options_.count + 1, options_.count))->plan(spec);
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    return sharing(chooses() ? chosen(inputs.statistics->at(kSimilarity, kAllLayers)) : options_.layers)
        ->apply(decoder, inputs);
  }

 private:
  inline static const Requirement kSimilarity{Tap::kAttentionWeights, "similarity"};

  bool chooses() const { return options_.layers.empty() && options_.count > 0; }

  static std::vector<std::int64_t> run(std::int64_t first, std::int64_t count) {
    std::vector<std::int64_t> layers;
    for (std::int64_t i = 0; i < count; ++i) layers.push_back(first + i);
    return layers;
  }

  std::unique_ptr<Pass> sharing(const std::vector<std::int64_t>& layers) const {
    return Registry<Pass>::instance().make({{"name", "share_attention"}, {"layers", layers}}, path_);
  }

  /// The run whose layers are, in the mean, most like the one before it; of equals the last.
  std::vector<std::int64_t> chosen(const at::Tensor& similarity) const {
    const std::int64_t behind = similarity.size(0) - (options_.keep_last ? 2 : 1);
    std::int64_t first = 1;
    double best = -1;
    for (std::int64_t begin = 1; begin + options_.count - 1 <= behind; ++begin) {
      const double alike = similarity[begin - 1].narrow(0, begin, options_.count).mean().item<double>();
      if (alike < best) continue;
      best = alike;
      first = begin;
    }
    return run(first, options_.count);
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, ShareSimilarAttention> kShareSimilarAttention(
    "shared_attention", "a span of layers, chosen by similarity, that reuses attention weights (arXiv 2407.12866)");

}  // namespace
}  // namespace mla
