#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/per_layer.h"
#include "core/base/registry.h"
#include "core/compress/head_weights.h"
#include "core/compress/latent_steps.h"
#include "core/compress/shared_head_pass.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

/// A trained model with the attention of MFA-KR (arXiv 2412.19255): ours, since the paper trains such models from
/// nothing. One key serves all heads and is all that is cached, before its rotation; values are made of it. A part of
/// the key is what pass mfa makes of keys; the rest is what these do not tell of the values, which no query meets. The
/// output projection reads the values out of the whole, by their regression on it, so that the gate of the key reuse
/// stays zero, where training from nothing begins, too. Twice as wide as all KV heads together nothing changes.
class MfaKr final : public Pass {
 public:
  struct Options {
    PerLayer width = 0, key_width = 0;
    std::int64_t query_rank = 0;
    SharedHeadMetric metric = SharedHeadMetric::kOutputs;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("width", self.width, "elements cached: one number, or a list by layer; 0: those of keys and values");
      visit("key_width", self.key_width, "of these, elements that queries meet; the width: all, as published; 0: half");
      visit("query_rank", self.query_rank, "what queries of all heads are made from; 0: one matrix, exact");
      visit("metric", self.metric, kSharedHeadMetricHelp);
    }
  };

  MfaKr(Options options, const std::string& path) : options_(std::move(options)), path_(path) {}

  /// Values are read out of keys by what is measured; but for the widest key, which holds them.
  Requirements requirements() const override {
    const bool exact = options_.width == PerLayer(0) && options_.key_width == PerLayer(0) && options_.query_rank == 0;
    return exact ? Requirements{} : shared_head_requirements(options_.metric);
  }

  ModelSpec plan(const ModelSpec& spec) const override {
    options_.width.check_length(path_ + ".width", spec.layers.size());
    options_.key_width.check_length(path_ + ".key_width", spec.layers.size());
    return plan_each_layer(spec, path_, [&](std::int64_t layer, const HeadFields& heads) {
      const Widths widths = widths_of(heads, layer);
      check_query_rank(options_.query_rank, heads.heads * widths.all, spec, path_);
      return reusing(heads, widths, some_pairs(widths.all / 2, heads));
    });
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      const auto index = static_cast<std::size_t>(layer);
      decoder.replace_attention(index, converted(decoder, layer, inputs, report));
    });
  }

 private:
  struct Widths {
    std::int64_t all = 0, key = 0;
  };

  Widths widths_of(const HeadFields& heads, std::int64_t layer) const {
    const auto index = static_cast<std::size_t>(layer);
    const std::int64_t most = heads.kv_heads * heads.head_dim;
    Widths widths{options_.width.at(index), options_.key_width.at(index)};
    if (widths.all == 0) widths.all = 2 * most;
    check_even_width(widths.all, 2 * most, options_.width.describe(path_ + ".width", index),
                     cat("keys and values of layer ", layer, " together"));
    const std::string described = options_.key_width.describe(path_ + ".key_width", index);
    if (widths.key == 0) widths.key = std::max<std::int64_t>(2, widths.all / 4 * 2);
    check_even_width(widths.key, std::min(most, widths.all), described,
                     cat("the KV heads of layer ", layer, " together, or the width"));
    if (widths.all - widths.key > most) {
      throw ConfigError(cat(described, ": leaves ", widths.all - widths.key,
                            " elements of the width for values, which ", "are ", most, " in layer ", layer));
    }
    return widths;
  }

  std::shared_ptr<const AttentionSpec> reusing(HeadFields heads, const Widths& widths,
                                               const std::vector<std::int64_t>& pairs) const {
    // A bias of values is one of what they are made of.
    heads.key_bias = heads.key_bias || heads.value_bias;
    heads.value_bias = false;
    Json fields = write_fields(heads);
    fields["key_width"] = fields["value_width"] = widths.all;
    fields["pairs"] = pairs;
    fields["query_rank"] = options_.query_rank;
    fields["key_reuse"] = true;
    return attention_of_kind("mfa", fields);
  }

  std::unique_ptr<Attention> converted(const Decoder& decoder, std::int64_t layer, const PassInputs& inputs,
                                       LayerReport& report) const {
    Attention& attention = *decoder.layers[static_cast<std::size_t>(layer)].attention;
    const BiasedWeights source = biased_weights(*as_grouped_query(attention));
    const HeadFields& heads = source.heads;
    const Widths widths = widths_of(heads, layer);
    const bool measured = !requirements().empty();
    const at::Tensor moment =
        shared_head_moment(measured ? options_.metric : SharedHeadMetric::kWeights, decoder.spec(), layer, inputs)
            .to(source.key.device());
    const SharedKey key = shared_key(source, moment, widths.key / 2);
    const ReusedKey reused = reused_key(source, moment, key, widths.all, heads.head_dim / 2 - 1);
    const at::TensorOptions options = source.key.options();
    ChangedMaps maps{{"k_proj", split_bias(reused.key, heads.key_bias || heads.value_bias)},
                     {"v_reuse_proj", {at::eye(widths.all, options), {}}},
                     {"v_gate", {{}, at::zeros({widths.all}, options)}},
                     {"o_proj", {reused.output, as_grouped_query(attention)->weights().output.bias()}}};
    add_queries(maps, reused.query, reused.energy, moment, options_.query_rank, heads.query_bias);
    report.error.key = relative(key.keys.lost, key.keys.all);
    report.error.value = relative(reused.values.lost, reused.values.all);
    // Logits and outputs have no common unit: the mean of their shares.
    report.error.joint = std::sqrt((report.error.key * report.error.key + report.error.value * report.error.value) / 2);
    return rebuild_attention(*reusing(heads, widths, reused.pairs), decoder.spec(), attention, maps, inputs.weights);
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, MfaKr> kMfaKrPass(
    "mfa_kr", "a trained model whose values are made of one wide key: ours, of MFA-KR's attention (arXiv 2412.19255)");

}  // namespace
}  // namespace mla
