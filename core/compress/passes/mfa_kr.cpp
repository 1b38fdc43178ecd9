#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/layers/shared_head_pass.h"

namespace mla {
namespace {

/// A trained model with the attention of MFA-KR (arXiv 2412.19255): ours, since the paper trains such models from
/// nothing. One key serves all heads and is all that is cached, before its rotation; values are made of it. A part of
/// the key is what pass mfa makes of keys; the rest is what these do not tell of the values, which no query meets. The
/// output projection reads the values out of the whole, by their regression on it, so that the gate of the key reuse
/// stays zero, where training from nothing begins, too. Twice as wide as all KV heads together nothing changes.
class MfaKr final : public SharedHeadPass {
 public:
  struct Options {
    SharedHeadOptions shared{.second_is = "key_width"};
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("width", self.shared.width, "elements cached: one number, or a list by layer; 0: those of keys and values");
      visit("key_width", self.shared.second,
            "of these, elements that queries meet; the width: all, as published; 0: half");
      visit("query_rank", self.shared.query_rank, "what queries of all heads are made from; 0: one matrix, exact");
      visit("metric", self.shared.metric, kSharedHeadMetricHelp);
    }
  };

  MfaKr(Options options, const std::string& path) : SharedHeadPass(std::move(options.shared), path) {}

 private:
  Widths widths_of(const HeadFields& heads, std::int64_t layer) const override {
    const auto index = static_cast<std::size_t>(layer);
    const std::int64_t most = heads.kv_heads * heads.head_dim;
    Widths widths{options().width.at(index), options().second.at(index)};
    if (widths.key == 0) widths.key = 2 * most;
    check_even_width(widths.key, 2 * most, described_width(layer),
                     cat("keys and values of layer ", layer, " together"));
    const std::string described = described_second(layer);
    if (widths.second == 0) widths.second = std::max<std::int64_t>(2, widths.key / 4 * 2);
    check_even_width(widths.second, std::min(most, widths.key), described,
                     cat("the KV heads of layer ", layer, " together, or the width"));
    if (widths.key - widths.second > most) {
      throw ConfigError(cat(described, ": leaves ", widths.key - widths.second,
                            " elements of the width for values, which ", "are ", most, " in layer ", layer));
    }
    return widths;
  }

  Json fields_of(HeadFields& heads, const Widths& widths) const override {
    // A bias of values is one of what they are made of.
    heads.key_bias = heads.key_bias || heads.value_bias;
    heads.value_bias = false;
    return {{"key_width", widths.key}, {"value_width", widths.key}, {"key_reuse", true}};
  }

  Converted convert(const BiasedWeights& source, const at::Tensor& moment, const Widths& widths) const override {
    const HeadFields& heads = source.heads;
    const SharedKey key = shared_key(source, moment, widths.second / 2);
    const ReusedKey reused = reused_key(source, moment, key, widths.key, heads.head_dim / 2 - 1);
    const at::TensorOptions options = source.key.options();
    return {{{"k_proj", split_bias(reused.key, heads.key_bias || heads.value_bias)},
             {"v_reuse_proj", {at::eye(widths.key, options), {}}},
             {"v_gate", {{}, at::zeros({widths.key}, options)}},
             {"o_proj", {reused.output, {}}}},
            reused.pairs,
            reused.query,
            reused.energy,
            key.keys,
            reused.values};
  }
};

const Registration<Pass, MfaKr> kMfaKrPass(
    "mfa_kr", "a trained model whose values are made of one wide key: ours, of MFA-KR's attention (arXiv 2412.19255)");

}  // namespace
}  // namespace mla
