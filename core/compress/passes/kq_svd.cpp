#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/layers/latent_steps.h"
#include "core/compress/pass.h"
#include "core/linalg/svd.h"
#include "core/low_rank/rank_factor.h"
#include "core/low_rank/whitening.h"

namespace mla {
namespace {

const Requirement kQueryMoments{Tap::kQueryRotated, "head_moments"}, kKeyMoments{Tap::kKeyRotated, "head_moments"},
    kValueMoments{Tap::kValue, "head_moments"};
/// Share of a moment's mean diagonal that is added to it, so that its root can be inverted.
constexpr double kRootDamping = 1e-9;

/// Two maps [width, rank] with x^T y ~ (ask^T x)^T (cached^T y), the best of that rank on average.
struct BestProduct {
  at::Tensor cached, ask;
  double lost = 0, all = 0;  ///< squared
};

/// From E[y y^T] of what is cached and E[x x^T] of what asks.
BestProduct best_product(const at::Tensor& cached, const at::Tensor& asking, std::int64_t rank) {
  const Whitening root = power_whitening(cached, kRootDamping, 0.5);
  const at::Tensor weighed = at::mm(root.root, DampedMoment(asking, kRootDamping).power(0.5));
  const TruncatedSvd svd = truncated_svd(weighed, weighed.size(0), {.method = "exact"});
  const at::Tensor kept = svd.left.narrow(1, 0, rank), squares = svd.values.square();
  BestProduct best{at::mm(root.inverse, kept), at::mm(root.root, kept)};
  best.all = squares.sum().item<double>();
  best.lost = squares.narrow(0, rank, squares.size(0) - rank).sum().item<double>();
  return best;
}

/// KQ-SVD (arXiv 2512.05916): of each KV head the cached key is the rotated one in the few directions with which the
/// products of queries and keys are best, not the keys themselves: C_k^1/2 C_q^1/2 = U S V^T, keys are cached as
/// (C_k^-1/2 U)^T k and queries ask with (C_k^1/2 U)^T q. Likewise values, for what the output projection makes of
/// them.
class KqSvd final : public Pass {
 public:
  struct Options {
    std::optional<std::int64_t> cached;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("cached", self.cached,
            "values cached per token and layer, of each KV head as many, half of them for its key");
    }
    void validate(const std::string& path) const {
      if (cached && *cached < 1) throw ConfigError(cat(path, ".cached = ", *cached, ": must be at least 1"));
    }
  };

  KqSvd(Options options, const std::string& path) : options_(options), path_(path) {}

  Requirements requirements() const override { return {kQueryMoments, kKeyMoments, kValueMoments}; }

  ModelSpec plan(const ModelSpec& spec) const override {
    return plan_each_layer(spec, path_, [&](std::int64_t, const HeadFields& heads) { return compressed(heads); });
  }

  std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const override {
    return for_each_layer(decoder, inputs, [&](std::int64_t layer, LayerReport& report) {
      const auto index = static_cast<std::size_t>(layer);
      decoder.replace_attention(index,
                                projected(decoder.spec(), *decoder.layers[index].attention, layer, inputs, report));
    });
  }

 private:
  struct Ranks {
    std::int64_t key = 0, value = 0;
  };

  Ranks ranks(const HeadFields& heads) const {
    const std::int64_t least = 2 * heads.kv_heads, most = 2 * heads.kv_heads * heads.head_dim;
    if (!options_.cached)
      throw ConfigError(cat(path_, ".cached: state how many values each layer caches per token, a multiple of its ",
                            heads.kv_heads, " KV heads up to ", most));
    if (*options_.cached % heads.kv_heads != 0 || *options_.cached < least || *options_.cached > most)
      throw ConfigError(cat(path_, ".cached = ", *options_.cached, ": must be a multiple of the ", heads.kv_heads,
                            " KV heads from ", least, " to ", most));
    const std::int64_t each = *options_.cached / heads.kv_heads;
    return {each / 2, each - each / 2};
  }

  std::shared_ptr<const AttentionSpec> compressed(const HeadFields& heads) const {
    const Ranks own = ranks(heads);
    Json fields = write_fields(heads);
    fields["keys"] = "projected";
    fields["query_up"] = true;
    fields["key_heads"] = fields["value_heads"] = heads.kv_heads;
    fields["key_width"] = own.key;
    fields["value_width"] = own.value;
    return attention_of_kind("split_latent", fields);
  }

  std::unique_ptr<Attention> projected(const ModelSpec& spec, Attention& attention, std::int64_t layer,
                                       const PassInputs& inputs, LayerReport& report) const {
    const GroupedQueryAttention& source = *as_grouped_query(attention);
    const HeadFields& heads = source.heads();
    const HeadWeights weights = head_weights(source);
    const Ranks own = ranks(heads);
    const auto measured = [&](const Requirement& moments) {
      return inputs.statistics->at(moments, layer).to(weights.key.device());
    };
    const auto of_groups = [&](const at::Tensor& of_heads) {
      return of_heads.unflatten(0, {heads.kv_heads, heads.group()}).sum(1);
    };
    const at::Tensor columns = weights.output.unflatten(1, {heads.heads, heads.head_dim}).permute({1, 2, 0});
    const at::Tensor asking = of_groups(measured(kQueryMoments)),
                     reading = of_groups(at::matmul(columns, columns.transpose(1, 2)));
    const at::Tensor keys = measured(kKeyMoments), values = measured(kValueMoments);
    std::vector<at::Tensor> key_maps, query_maps, value_rows, value_biases, output_maps;
    BestProduct sum_of_keys, sum_of_values;
    const auto add = [](BestProduct& sum, const BestProduct& one) {
      sum.lost += one.lost;
      sum.all += one.all;
    };
    const auto rows_of = [&](const at::Tensor& rows, std::int64_t head) {
      return rows.narrow(0, head * heads.head_dim, heads.head_dim);
    };
    for (std::int64_t head = 0; head < heads.kv_heads; ++head) {
      const BestProduct key = best_product(keys[head], asking[head], own.key),
                        value = best_product(values[head], reading[head], own.value);
      key_maps.push_back(key.cached);
      query_maps.push_back(key.ask);
      value_rows.push_back(at::mm(value.cached.t(), rows_of(weights.value, head)));
      if (weights.value_bias.defined())
        value_biases.push_back(at::mv(value.cached.t(), rows_of(weights.value_bias, head)));
      output_maps.push_back(value.ask);
      add(sum_of_keys, key);
      add(sum_of_values, value);
    }
    report.error = {relative(sum_of_keys.lost + sum_of_values.lost, sum_of_keys.all + sum_of_values.all),
                    relative(sum_of_keys.lost, sum_of_keys.all), relative(sum_of_values.lost, sum_of_values.all)};
    const std::map<std::string, std::pair<at::Tensor, at::Tensor>> maps{
        {"q_up_proj", {at::cat(query_maps), {}}},
        {"k_up_proj", {at::cat(key_maps), {}}},
        {"v_proj", {at::cat(value_rows), value_biases.empty() ? at::Tensor() : at::cat(value_biases)}},
        {"o_proj", {absorb_directions(weights.output, at::cat(output_maps), heads), source.weights().output.bias()}}};
    return rebuild_attention(*compressed(heads), spec, attention, maps, inputs.weights);
  }

  Options options_;
  std::string path_;
};

const Registration<Pass, KqSvd> kKqSvd(
    "kq_svd", "fewer dims of rotated keys and of values, by what products with them lose (KQ-SVD, arXiv 2512.05916)");

}  // namespace
}  // namespace mla
