// Which layout of the rotated key a conversion takes, where its options leave that to calibration text.
#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/compress/calibration/held_out.h"
#include "core/compress/layers/shared_key.h"

namespace mla {
namespace {

/// Tokens of calibration text, about, that a layout is chosen by.
constexpr std::int64_t kHeldOutTokens = 8192;
constexpr double kNothingYet = std::numeric_limits<double>::infinity();

}  // namespace

/// All that the options and the budget leave, by width of the rotated key, then by fold.
std::vector<HeadFolding> SharedKeyConversion::layouts(const ModelSpec& spec) const {
  std::optional<HeadFields> heads;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    if (!converts(spec, layer)) continue;
    check_layer(spec, layer);
    const HeadFields own = *grouped_query_heads(spec.attention(layer));
    if (heads && (heads->kv_heads != own.kv_heads || heads->head_dim != own.head_dim))
      throw ConfigError(cat(path_, ": layer ", layer, " has other KV heads than the layers before"));
    heads = own;
  }
  if (!heads) throw ConfigError(cat(path_, ": no layer has keys to convert"));
  const std::int64_t pairs = heads->head_dim / 2;
  std::vector<HeadFolding> all;
  for (std::int64_t collapse = 1; pairs % collapse == 0; collapse *= 2) {
    const std::int64_t own = options_.collapse.value_or(collapse);
    for (std::int64_t fold = own; pairs % fold == 0; fold *= 2) {
      const HeadFolding folding{own, options_.fold.value_or(fold), options_.damping};
      if (folding.fold % own == 0 && rank(*heads, folding) > 0) all.push_back(folding);
      if (options_.fold) break;
    }
    if (options_.collapse) break;
  }
  if (all.empty())
    throw ConfigError(cat(path_, ".cached = ", *options_.cached, ": too few for a rotated key and a latent"));
  return all;
}

/// TransMLA's search, which doubles the fold while perplexity falls, here on the converted model and on text of which
/// nothing was measured; over widths of the rotated key likewise, as long as narrower ones do better.
HeadFolding SharedKeyConversion::choose(Decoder& decoder, const PassInputs& inputs, const FitLatent& fit) const {
  const std::vector<HeadFolding> all = layouts(decoder.spec());
  if (all.size() == 1) return all.front();
  const HeldOutRows rows = hold_out(*inputs.rows, kHeldOutTokens, path_ + (options_.fold ? ".collapse" : ".fold"));
  const Statistics statistics = calibrate(decoder, rows.measured, {kKeySecondMoment, kInputMoment}, {}, {});
  PassInputs own = inputs;
  own.statistics = &statistics;
  own.progress = {};
  const auto nll_of = [&](const HeadFolding& folding) {
    Attentions replaced(decoder.layers.size());
    convert(decoder, own, fit, {}, {folding, LatentInputs::kFound}, &replaced);
    const double nll = mean_nll(decoder, rows.held_out);
    for (std::size_t i = 0; i < replaced.size(); ++i) {
      if (replaced[i]) decoder.replace_attention(i, std::move(replaced[i]));
    }
    return nll;
  };
  HeadFolding best = all.front();
  double least = kNothingYet;
  for (std::size_t i = 0; i < all.size();) {
    const std::int64_t collapse = all[i].collapse;
    double least_here = kNothingYet;
    for (bool falls = true; i < all.size() && all[i].collapse == collapse; ++i) {
      const double nll = falls ? nll_of(all[i]) : kNothingYet;
      falls = nll < least_here;
      least_here = std::min(least_here, nll);
      if (nll < least) best = all[i];
      least = std::min(least, nll);
    }
    if (least_here > least) break;
  }
  return best;
}

}  // namespace mla
