#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <limits>

#include "core/attention/grouped_query.h"
#include "core/base/registry.h"
#include "core/compress/calibration/layer_walk.h"
#include "core/compress/pass.h"

namespace mla {
namespace {

/// What is looked at: so many calibration rows, their first tokens, and of these every so manieth query with all keys
/// that it sees.
constexpr std::size_t kRows = 8;
constexpr std::int64_t kRowTokens = 256, kQueryStride = 8;

/// EliteKV (arXiv 2503.01586): RoPElite chooses the pairs of each KV head that stay rotated, one after the other, each
/// time the one with which logits come closest to the source's in the mean of their absolute differences, over the
/// query heads that read it; then keys without them and values go into a joint latent by the plain SVD (J-LRD). The
/// public code's mean runs over later tokens, too, which no query sees; here it does not. Layers measure on the source.
class EliteKv final : public Pass {
 public:
  struct Options {
    std::optional<std::int64_t> cached, pairs;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("cached", self.cached, "values cached per token and layer: 2 * pairs of each KV head, and the latent");
      visit("pairs", self.pairs, "rotation pairs that each KV head keeps; null: head_dim / 16, at least 1");
    }
    void validate(const std::string& path) const {
      if (cached && *cached < 1) throw ConfigError(cat(path, ".cached = ", *cached, ": must be at least 1"));
      if (pairs && *pairs < 0) throw ConfigError(cat(path, ".pairs = ", *pairs, ": must not be negative"));
    }
  };

  EliteKv(Options options, const std::string& path) : options_(options), path_(path) {}

  bool reads_rows() const override { return true; }

  ModelSpec plan(const ModelSpec& spec) const override {
    return conversion(spec, {{"name", "high"}, {"pairs", pairs_of(spec)}})->plan(spec);
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    std::vector<KeptPairs> kept;
    TokenRowList rows;
    for (const auto& row : *inputs.rows) {
      if (rows.size() == kRows) break;
      rows.emplace_back(row.begin(), row.begin() + std::min<std::int64_t>(std::ssize(row), kRowTokens));
    }
    for (LayerWalk walk(decoder, rows, {}); !walk.done();) kept.push_back(chosen(decoder, walk));
    return conversion(decoder.spec(), {{"name", "explicit"}, {"kept", kept}})->apply(decoder, inputs);
  }

 private:
  static HeadFields heads_of(const ModelSpec& spec, const std::string& path) {
    for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
      const std::optional<HeadFields> heads = grouped_query_heads(spec.attention(layer));
      if (!heads)
        throw ConfigError(cat(path, ": layer ", layer, " is of kind ", spec.attention(layer).kind(),
                              "; expected grouped_query: convert before other passes"));
      if (layer + 1 == spec.layer_count()) return *heads;
    }
    throw ConfigError(cat(path, ": the model has no layers"));
  }

  std::int64_t pairs_of(const ModelSpec& spec) const {
    return options_.pairs.value_or(std::max<std::int64_t>(1, heads_of(spec, path_).head_dim / 16));
  }

  /// What remains once pairs are known: MHA2MLA's two steps.
  std::unique_ptr<Pass> conversion(const ModelSpec& spec, const Json& rope) const {
    const HeadFields heads = heads_of(spec, path_);
    const std::int64_t pairs = pairs_of(spec), rotated = 2 * pairs * heads.kv_heads;
    if (pairs > heads.head_dim / 2)
      throw ConfigError(cat(path_, ".pairs = ", pairs, ": a head has ", heads.head_dim / 2));
    const std::int64_t rows = heads.kv_heads * (2 * heads.head_dim - 2 * pairs),
                       most = rotated + std::min(rows, spec.hidden);
    if (!options_.cached)
      throw ConfigError(cat(path_, ".cached: state how many values each layer caches per token, ", rotated + 1, " to ",
                            most, " with pairs = ", pairs));
    if (*options_.cached <= rotated || *options_.cached > most)
      throw ConfigError(cat(path_, ".cached = ", *options_.cached, ": must be from ", rotated + 1, " to ", most,
                            " with pairs = ", pairs));
    return Registry<Pass>::instance().make(
        {{"name", "mha2mla"},
         {"rope", rope},
         {"low_rank", {{"name", "joint_svd"}, {"latent", *options_.cached - rotated}}}},
        path_);
  }

  /// Of each pair, what its rotation adds to the logits of query and key: [heads, pairs, meetings]. The walk goes
  /// through the layer.
  static at::Tensor differences(LayerWalk& walk, const Decoder& decoder, const HeadFields& heads) {
    at::Tensor queries;
    std::vector<at::Tensor> found;
    walk.advance({Tap::kQuery, Tap::kKey}, [&](std::size_t, Tap tap, const at::Tensor& keys) {
      if (tap == Tap::kQuery) {
        queries = keys;
        return;
      }
      const std::int64_t length = keys.size(2), half = heads.head_dim / 2;
      const RotaryTable rotary = decoder.spec().rotary(heads.rope).table(0, length, length, keys.options());
      for (std::int64_t row = 0; row < keys.size(0); ++row) {
        for (std::int64_t t = std::min(kQueryStride, length) - 1; t < length; t += kQueryStride) {
          // As complex numbers, pair by pair: conj(q) k, then turned by how much further the query stands.
          const auto part = [&](const at::Tensor& heads_of, std::int64_t begin) {
            return heads_of.narrow(-1, begin, half).to(at::kDouble);
          };
          const at::Tensor q = queries[row].narrow(1, t, 1),
                           k = keys[row].narrow(1, 0, t + 1).repeat_interleave(heads.group(), 0);
          const at::Tensor real = part(q, 0) * part(k, 0) + part(q, half) * part(k, half),
                           imaginary = part(q, 0) * part(k, half) - part(q, half) * part(k, 0);
          const at::Tensor cosine = rotary.cosine.to(at::kDouble), sine = rotary.sine.to(at::kDouble);
          const at::Tensor turn_real = cosine[t] * cosine.narrow(0, 0, t + 1) + sine[t] * sine.narrow(0, 0, t + 1),
                           turn_imaginary = cosine[t] * sine.narrow(0, 0, t + 1) - sine[t] * cosine.narrow(0, 0, t + 1);
          found.push_back((real * (turn_real - 1) - imaginary * turn_imaginary).transpose(1, 2));
        }
      }
    });
    return at::cat(found, 2);
  }

  KeptPairs chosen(const Decoder& decoder, LayerWalk& walk) const {
    const at::NoGradGuard off;
    const std::int64_t layer = walk.layer();
    const HeadFields heads = *grouped_query_heads(decoder.spec().attention(layer));
    const at::Tensor added = differences(walk, decoder, heads).unflatten(0, {heads.kv_heads, heads.group()});
    const std::int64_t count = pairs_of(decoder.spec());
    KeptPairs kept;
    for (std::int64_t head = 0; head < heads.kv_heads; ++head) {
      at::Tensor missing = added[head].sum(1);  // [group, meetings]: no pair is rotated
      std::vector<std::int64_t>& own = kept.emplace_back();
      at::Tensor taken = at::zeros({heads.head_dim / 2}, missing.options());
      for (std::int64_t round = 0; round < count; ++round) {
        const at::Tensor errors = (missing.unsqueeze(1) - added[head]).abs().mean(at::IntArrayRef{0, 2}) + taken;
        const std::int64_t best = errors.argmin().item<std::int64_t>();
        if (!(errors[best].item<double>() < std::numeric_limits<double>::infinity()))
          throw DataError(cat(path_, ": logits of layer ", layer, " on calibration data are not finite"));
        own.push_back(best);
        taken[best] = std::numeric_limits<double>::infinity();
        missing = missing - added[head].select(1, best);
      }
      std::sort(own.begin(), own.end());
    }
    return kept;
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, EliteKv> kEliteKv(
    "elitekv",
    "pairs of each head by a search over logits, then a joint latent by plain SVD (EliteKV, arXiv 2503.01586)");

}  // namespace
}  // namespace mla
