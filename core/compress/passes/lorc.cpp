#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/per_layer.h"
#include "core/base/registry.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"
#include "core/linalg/svd.h"
#include "core/low_rank/condition_numbers.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

enum class FactoredParts { kBoth, kKeys, kValues };
std::vector<std::pair<std::string, FactoredParts>> enum_names(FactoredParts) {
  return {{"both", FactoredParts::kBoth}, {"keys", FactoredParts::kKeys}, {"values", FactoredParts::kValues}};
}

/// The keys' and values' matrices of one layer, decomposed.
struct LayerFactors {
  TruncatedSvd key, value;

  static std::vector<double> squares_left(const at::Tensor& values, std::int64_t width) {
    const at::Tensor squares = values.to(at::kCPU, at::kDouble).square();
    return {squares.narrow(0, width, squares.size(0) - width).sum().item<double>(), squares.sum().item<double>()};
  }
};

/// LoRC (arXiv 2410.03111): keys and values of a layer, each matrix as the product of two of low rank, by its plain
/// SVD, without data or training. A latent of keys and one of values are cached before rotation; keys are rebuilt and
/// rotated when they are read (no product of matrices replaces that: rotation stands between them), values through the
/// context. Both of a layer get the same width, and layers share a budget as `allocate` says; LoRC's rule is
/// condition_numbers.
class Lorc final : public Pass {
 public:
  struct Options {
    PerLayer width = 16;
    Json allocate = {{"name", "condition_numbers"}};
    FactoredParts parts = FactoredParts::kBoth;
    static StrategyFields strategies() { return {{"allocate", strategy_identity<Allocator>}}; }
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("width", self.width, "elements of the keys' latent, and of the values': one number, or a list by layer");
      visit("allocate", self.allocate, "how layers share these widths, all together: {\"name\": …}");
      visit("parts", self.parts, "what is factored: both | keys | values");
    }
  };

  Lorc(Options options, const std::string& path)
      : options_(std::move(options)),
        path_(path),
        allocator_(Registry<Allocator>::instance().make(options_.allocate, path + ".allocate")) {}

  Requirements requirements() const override {
    Requirements all;
    for (const std::string& name : allocator_->statistics()) all.insert(named_requirement(name));
    return all;
  }

  bool measures_shapes() const override { return allocator_->measures(); }

  ModelSpec plan(const ModelSpec& spec) const override {
    options_.width.check_length(path_ + ".width", spec.layers.size());
    return plan_each_layer(spec, path_, [&](std::int64_t layer, const HeadFields& heads) {
      const std::int64_t width = options_.width.at(static_cast<std::size_t>(layer)), rank = largest(heads, spec);
      if (width < 1 || width > rank)
        throw ConfigError(cat(options_.width.describe(path_ + ".width", static_cast<std::size_t>(layer)),
                              ": must be from 1 to the rank ", rank, " of layer ", layer));
      return factored(heads, width);
    });
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    const ModelSpec source = decoder.spec();
    std::vector<LayerFactors> factors;
    for (const DecoderLayer& layer : decoder.layers) {
      const HeadWeights weights = head_weights(*as_grouped_query(*layer.attention));
      const auto decomposed = [](const at::Tensor& matrix) {
        return truncated_svd(matrix, std::min(matrix.size(0), matrix.size(1)), {.method = "exact"});
      };
      factors.push_back({decomposed(weights.key), decomposed(weights.value)});
    }
    const std::vector<std::int64_t> widths = allocated(source, factors, inputs);
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      const auto index = static_cast<std::size_t>(layer);
      decoder.replace_attention(
          index, low_rank(source, *decoder.layers[index].attention, factors[index], widths[index], inputs, report));
    });
  }

 private:
  bool factors_keys() const { return options_.parts != FactoredParts::kValues; }
  bool factors_values() const { return options_.parts != FactoredParts::kKeys; }

  static std::int64_t largest(const HeadFields& heads, const ModelFrame& frame) {
    return std::min(heads.kv_heads * heads.head_dim, frame.hidden);
  }

  std::shared_ptr<const AttentionSpec> factored(const HeadFields& heads, std::int64_t width) const {
    Json fields = write_fields(heads);
    fields["keys"] = factors_keys() ? "rebuilt" : "rotated";
    fields["key_heads"] = factors_keys() ? 1 : heads.kv_heads;
    fields["key_width"] = factors_keys() ? width : heads.head_dim;
    fields["value_heads"] = factors_values() ? 1 : heads.kv_heads;
    fields["value_width"] = factors_values() ? width : heads.head_dim;
    fields["value_up"] = factors_values();
    return attention_of_kind("split_latent", fields);
  }

  std::vector<std::int64_t> allocated(const ModelSpec& source, const std::vector<LayerFactors>& factors,
                                      const PassInputs& inputs) const {
    std::vector<LayerShare> shares;
    for (std::int64_t layer = 0; layer < source.layer_count(); ++layer) {
      const LayerFactors& own = factors[static_cast<std::size_t>(layer)];
      LayerShare& share = shares.emplace_back(LayerShare{1,
                                                         largest(*source.attention(layer).heads(), source),
                                                         options_.width.at(static_cast<std::size_t>(layer)),
                                                         {}});
      share.error = [&own](std::int64_t width) {
        const auto key = LayerFactors::squares_left(own.key.values, width);
        const auto value = LayerFactors::squares_left(own.value.values, width);
        return relative(key[0] + value[0], key[1] + value[1]);
      };
      share.log_condition = [&own] { return log_condition_of(own.key.values) + log_condition_of(own.value.values); };
      for (const std::string& name : allocator_->statistics())
        share.measured[name] = inputs.statistics->at(named_requirement(name), layer);
    }
    return allocator_->allocate(shares);
  }

  std::unique_ptr<Attention> low_rank(const ModelSpec& source, Attention& attention, const LayerFactors& factors,
                                      std::int64_t width, const PassInputs& inputs, LayerReport& report) const {
    const GroupedQueryAttention& grouped = *as_grouped_query(attention);
    const auto spec = factored(grouped.heads(), width);
    std::map<std::string, std::pair<at::Tensor, at::Tensor>> maps;
    double lost = 0, all = 0;
    const auto cut = [&](const std::string& name, const TruncatedSvd& svd, const at::Tensor& bias,
                         std::vector<double>& values) {
      maps[name + "_proj"] = {svd.right.narrow(0, 0, width), {}};
      maps[name + "_up_proj"] = {(svd.left * svd.values).narrow(1, 0, width), bias};
      const at::Tensor kept = svd.values.narrow(0, 0, width).to(at::kCPU, at::kDouble).contiguous();
      values.assign(kept.const_data_ptr<double>(), kept.const_data_ptr<double>() + kept.numel());
      const auto squares = LayerFactors::squares_left(svd.values, width);
      lost += squares[0];
      all += squares[1];
      return relative(squares[0], squares[1]);
    };
    if (factors_keys()) report.error.key = cut("k", factors.key, grouped.weights().key.bias(), report.singular_values);
    if (factors_values())
      report.error.value = cut("v", factors.value, grouped.weights().value.bias(), report.value_singular_values);
    report.error.joint = relative(lost, all);
    return rebuild_attention(*spec, source, attention, maps, inputs.weights);
  }

  Options options_;
  std::string path_;
  std::unique_ptr<Allocator> allocator_;
};

const Registration<Pass, Lorc> kLorc(
    "lorc", "low-rank latents of keys and of values, progressive by condition numbers (LoRC, arXiv 2410.03111)");

}  // namespace
}  // namespace mla
