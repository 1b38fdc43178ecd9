#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/layers/shared_head_pass.h"

namespace mla {
namespace {

/// A trained model with the attention of MFA (arXiv 2412.19255): ours, since the paper trains such models from nothing.
/// One key and one value serve all heads. As wide as all KV heads together they hold these one after the other, and
/// nothing changes; narrower, the key keeps of each frequency the combinations of KV heads' pairs, and the value the
/// directions, that matter most for logits and for what is added to the stream. Queries are of one matrix, or factored
/// as published: the paper's rank is the width.
class Mfa final : public SharedHeadPass {
 public:
  struct Options {
    SharedHeadOptions shared{.second_is = "value_width"};
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("width", self.shared.width,
            "of the one key, and of the value: one number, or a list by layer; 0: all KV heads'");
      visit("value_width", self.shared.second, "of the value; 0: the key's");
      visit("query_rank", self.shared.query_rank, "what queries of all heads are made from; 0: one matrix, exact");
      visit("metric", self.shared.metric, kSharedHeadMetricHelp);
    }
  };

  Mfa(Options options, const std::string& path) : SharedHeadPass(std::move(options.shared), path) {}

 private:
  Widths widths_of(const HeadFields& heads, std::int64_t layer) const override {
    const auto index = static_cast<std::size_t>(layer);
    const std::int64_t all = heads.kv_heads * heads.head_dim;
    const std::string all_is = cat("the KV heads of layer ", layer, " together");
    Widths widths{options().width.at(index), options().second.at(index)};
    if (widths.key == 0) widths.key = all;
    check_even_width(widths.key, all, described_width(layer), all_is);
    if (widths.second == 0) widths.second = widths.key;
    if (widths.second < 1 || widths.second > all) {
      throw ConfigError(cat(described_second(layer), ": must be from 1 to ", all, " (", all_is, "); 0: the key's"));
    }
    return widths;
  }

  Json fields_of(HeadFields&, const Widths& widths) const override {
    return {{"key_width", widths.key}, {"value_width", widths.second}};
  }

  Converted convert(const BiasedWeights& source, const at::Tensor& moment, const Widths& widths) const override {
    const SharedKey key = shared_key(source, moment, widths.key / 2);
    const SharedValue value = shared_value(source, moment, widths.second);
    return {{{"k_proj", split_bias(key.key, source.heads.key_bias)},
             {"v_proj", split_bias(value.value, source.heads.value_bias)},
             {"o_proj", {value.output, {}}}},
            key.pairs,
            key.query,
            key.energy,
            key.keys,
            value.values};
  }
};

const Registration<Pass, Mfa> kMfaPass(
    "mfa", "a trained model with one wide key and value for all heads: ours, of MFA's attention (arXiv 2412.19255)");

}  // namespace
}  // namespace mla
