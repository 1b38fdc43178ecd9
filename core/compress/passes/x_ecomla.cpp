#include <ATen/ATen.h>

#include <algorithm>

#include "core/attention/latent.h"
#include "core/base/registry.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"
#include "core/linalg/svd.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

/// The start of X-EcoMLA (arXiv 2503.11132), from weights alone: keys and values of a layer read a latent, the joint
/// SVD of their matrices; of each head the first dims become position-free, and the mean over KV heads of the last ones
/// is the rotated key of all. Which dims turned together before plays no part in it, as published: without training
/// such a model says nothing; distillation from the source makes it one.
class XEcoMla final : public Pass {
 public:
  struct Options {
    std::optional<std::int64_t> cached, rotated;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("cached", self.cached, "values cached per token and layer, the rotated key's and the latent's together");
      visit("rotated", self.rotated, "dims of the rotated key; null: half of a head");
    }
    void validate(const std::string& path) const {
      if (cached && *cached < 1) throw ConfigError(cat(path, ".cached = ", *cached, ": must be at least 1"));
      if (rotated && (*rotated < 0 || *rotated % 2 != 0))
        throw ConfigError(cat(path, ".rotated = ", *rotated, ": must be even and not negative"));
    }
  };

  XEcoMla(Options options, const std::string& path) : options_(options), path_(path) {}

  ModelSpec plan(const ModelSpec& spec) const override {
    return plan_each_layer(spec, path_, [&](std::int64_t, const HeadFields& heads) {
      return std::make_shared<LatentSpec>(LatentSpec::Options{layout(heads, spec), heads});
    });
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      const auto index = static_cast<std::size_t>(layer);
      decoder.replace_attention(
          index, started(decoder.spec(), *as_grouped_query(*decoder.layers[index].attention), inputs, report));
    });
  }

 private:
  LatentLayout layout(const HeadFields& heads, const ModelFrame& frame) const {
    const std::int64_t width = options_.rotated.value_or(heads.head_dim / 4 * 2);
    if (width > heads.head_dim || (width > 0 && heads.head_dim % width != 0))
      throw ConfigError(cat(path_, ".rotated = ", width, ": must divide head_dim = ", heads.head_dim));
    const std::int64_t most = width + std::min(heads.kv_heads * (2 * heads.head_dim - width), frame.hidden);
    if (!options_.cached)
      throw ConfigError(
          cat(path_, ".cached: state how many values each layer caches per token, ", width + 1, " to ", most));
    if (*options_.cached <= width || *options_.cached > most)
      throw ConfigError(cat(path_, ".cached = ", *options_.cached, ": must be from ", width + 1, " to ", most,
                            " (rotated = ", width, ")"));
    LatentLayout layout;
    // Frequencies of a rotary embedding of that width: every head_dim / width-th one of the source's.
    layout.kept.resize(1);
    for (std::int64_t pair = 0; pair < width / 2; ++pair) layout.kept[0].push_back(pair * (heads.head_dim / width));
    layout.content_width = heads.head_dim - width;
    layout.value_width = heads.head_dim;
    layout.latent_width = *options_.cached - width;
    layout.value = {0, layout.latent_width};
    layout.key_up = layout.content_width > 0;
    if (layout.key_up) layout.key = layout.value;
    return layout;
  }

  std::unique_ptr<LatentAttention> started(const ModelSpec& spec, const GroupedQueryAttention& source,
                                           const PassInputs& inputs, LayerReport& report) const {
    const HeadFields& heads = source.heads();
    const LatentLayout made = layout(heads, spec);
    const HeadWeights weights = head_weights(source);
    const std::int64_t rotated = made.rope_width(), content = made.content_width, rank = made.latent_width;
    const at::ScalarType type = inputs.weights.value_or(source.weights().key.scalar_type());
    const auto stored = [&](const at::Tensor& tensor) {
      return tensor.defined() ? tensor.to(type).contiguous() : tensor;
    };
    // [heads, head_dim, …]: the dims that stay position-free, and those that are rotated.
    const auto by_head = [&](const at::Tensor& rows) { return rows.unflatten(0, {-1, heads.head_dim}); };
    const auto unrotated = [&](const at::Tensor& rows) {
      return rows.defined() ? by_head(rows).narrow(1, 0, content).flatten(0, 1) : rows;
    };
    const auto mean_of_last = [&](const at::Tensor& rows) {
      return rows.defined() ? by_head(rows).narrow(1, content, rotated).mean(0) : rows;
    };
    const auto queries = [&](const at::Tensor& rows) {
      if (!rows.defined()) return rows;
      const at::Tensor own = by_head(rows);
      return at::cat({own.narrow(1, content, rotated), own.narrow(1, 0, content)}, 1).flatten(0, 1);
    };
    const at::Tensor keys = unrotated(weights.key), both = at::cat({keys, weights.value});
    const TruncatedSvd svd =
        truncated_svd(both, std::min(rank, std::min(both.size(0), both.size(1))), {.method = "exact"});
    const at::Tensor up = svd.left, down = svd.right * svd.values.unsqueeze(1);  // singular values stand in down
    LatentAttention::Weights parts;
    parts.query = {stored(queries(weights.query)), stored(queries(weights.query_bias))};
    parts.rope_key = {stored(mean_of_last(weights.key)), stored(mean_of_last(weights.key_bias))};
    parts.down = Linear(stored(down));
    parts.key_up = {made.key_up ? stored(up.narrow(0, 0, keys.size(0))) : at::Tensor(),
                    stored(unrotated(weights.key_bias))};
    parts.value_up = {stored(up.narrow(0, keys.size(0), weights.value.size(0))), stored(weights.value_bias)};
    parts.output = source.weights().output;
    report.kept = made.kept;
    const at::Tensor kept = svd.values.to(at::kCPU).contiguous(), missing = both - at::mm(up, down);
    report.singular_values.assign(kept.const_data_ptr<double>(), kept.const_data_ptr<double>() + kept.numel());
    report.error = relative_error(keys, squared_norm(missing.narrow(0, 0, keys.size(0))), weights.value,
                                  squared_norm(missing.narrow(0, keys.size(0), weights.value.size(0))));
    return std::make_unique<LatentAttention>(source.frame(), heads, made, std::move(parts));
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, XEcoMla> kXEcoMla(
    "x_ecomla",
    "a start for distillation: joint SVD, and one rotated key, the mean of heads (X-EcoMLA, arXiv 2503.11132)");

}  // namespace
}  // namespace mla
