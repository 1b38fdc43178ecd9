#include <ATen/ATen.h>

#include <cmath>

#include "core/base/per_layer.h"
#include "core/base/registry.h"
#include "core/compress/head_weights.h"
#include "core/compress/latent_steps.h"
#include "core/compress/shared_head_pass.h"
#include "core/low_rank/rank_factor.h"

namespace mla {
namespace {

/// A trained model with the attention of MFA (arXiv 2412.19255): ours, since the paper trains such models from nothing.
/// One key and one value serve all heads. As wide as all KV heads together they hold these one after the other, and
/// nothing changes; narrower, the key keeps of each frequency the combinations of KV heads' pairs, and the value the
/// directions, that matter most for logits and for what is added to the stream. Queries are of one matrix, or factored
/// as published: the paper's rank is the width.
class Mfa final : public Pass {
 public:
  struct Options {
    PerLayer width = 0, value_width = 0;
    std::int64_t query_rank = 0;
    SharedHeadMetric metric = SharedHeadMetric::kOutputs;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("width", self.width, "of the one key, and of the value: one number, or a list by layer; 0: all KV heads'");
      visit("value_width", self.value_width, "of the value; 0: the key's");
      visit("query_rank", self.query_rank, "what queries of all heads are made from; 0: one matrix, exact");
      visit("metric", self.metric, kSharedHeadMetricHelp);
    }
  };

  Mfa(Options options, const std::string& path) : options_(std::move(options)), path_(path) {}

  Requirements requirements() const override {
    const bool exact = options_.width == PerLayer(0) && options_.value_width == PerLayer(0) && options_.query_rank == 0;
    return exact ? Requirements{} : shared_head_requirements(options_.metric);
  }

  ModelSpec plan(const ModelSpec& spec) const override {
    options_.width.check_length(path_ + ".width", spec.layers.size());
    options_.value_width.check_length(path_ + ".value_width", spec.layers.size());
    return plan_each_layer(spec, path_, [&](std::int64_t layer, const HeadFields& heads) {
      const Widths widths = widths_of(heads, layer);
      check_query_rank(options_.query_rank, heads.heads * widths.key, spec, path_);
      return shared(heads, widths, some_pairs(widths.key / 2, heads));
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
    std::int64_t key = 0, value = 0;
  };

  Widths widths_of(const HeadFields& heads, std::int64_t layer) const {
    const auto index = static_cast<std::size_t>(layer);
    const std::int64_t all = heads.kv_heads * heads.head_dim;
    const std::string all_is = cat("the KV heads of layer ", layer, " together");
    Widths widths{options_.width.at(index), options_.value_width.at(index)};
    if (widths.key == 0) widths.key = all;
    check_even_width(widths.key, all, options_.width.describe(path_ + ".width", index), all_is);
    if (widths.value == 0) widths.value = widths.key;
    if (widths.value < 1 || widths.value > all) {
      throw ConfigError(cat(options_.value_width.describe(path_ + ".value_width", index), ": must be from 1 to ", all,
                            " (", all_is, "); 0: the key's"));
    }
    return widths;
  }

  std::shared_ptr<const AttentionSpec> shared(const HeadFields& heads, const Widths& widths,
                                              const std::vector<std::int64_t>& pairs) const {
    Json fields = write_fields(heads);
    fields["key_width"] = widths.key;
    fields["value_width"] = widths.value;
    fields["pairs"] = pairs;
    fields["query_rank"] = options_.query_rank;
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
    const SharedValue value = shared_value(source, moment, widths.value);
    ChangedMaps maps{{"k_proj", split_bias(key.key, heads.key_bias)},
                     {"v_proj", split_bias(value.value, heads.value_bias)},
                     {"o_proj", {value.output, as_grouped_query(attention)->weights().output.bias()}}};
    add_queries(maps, key.query, key.energy, moment, options_.query_rank, heads.query_bias);
    report.error.key = relative(key.keys.lost, key.keys.all);
    report.error.value = relative(value.values.lost, value.values.all);
    // Logits and outputs have no common unit: the mean of their shares.
    report.error.joint = std::sqrt((report.error.key * report.error.key + report.error.value * report.error.value) / 2);
    return rebuild_attention(*shared(heads, widths, key.pairs), decoder.spec(), attention, maps, inputs.weights);
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, Mfa> kMfaPass(
    "mfa", "a trained model with one wide key and value for all heads: ours, of MFA's attention (arXiv 2412.19255)");

}  // namespace
}  // namespace mla
