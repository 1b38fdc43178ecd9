// Attention over two caches of their own: one of keys, one of values, each possibly narrower than what it stands for.
#include <ATen/ATen.h>

#include <tuple>
#include <utility>

#include "core/attention/attention.h"
#include "core/attention/attention_weights.h"
#include "core/attention/decode_step.h"
#include "core/attention/limits.h"
#include "core/attention/pieces.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/rotary_embedding.h"

namespace mla {
namespace {

/// What is cached of keys.
enum class CachedKeys {
  kRotated,    ///< the rotated keys themselves
  kProjected,  ///< rotated keys of a group of KV heads, projected on a few directions; queries are projected likewise
  kRebuilt,    ///< a latent, from which keys are rebuilt and then rotated whenever they are read
};
std::vector<std::pair<std::string, CachedKeys>> enum_names(CachedKeys) {
  return {{"rotated", CachedKeys::kRotated}, {"projected", CachedKeys::kProjected}, {"rebuilt", CachedKeys::kRebuilt}};
}

/// Fields of a layer. The KV heads of the source are in `key_heads` groups, each with one cached vector of `key_width`
/// elements; likewise for values.
struct SplitLatentFields {
  HeadFields heads;
  CachedKeys keys = CachedKeys::kRotated;
  std::int64_t key_heads = 1, key_width = 1, value_heads = 1, value_width = 1;
  bool value_up = false, query_up = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    HeadFields::fields(self.heads, visit);
    visit("keys", self.keys, "what is cached of keys: rotated | projected (after rotation) | rebuilt (before it)");
    visit("key_heads", self.key_heads, "cached key vectors per token, each for a group of KV heads");
    visit("key_width", self.key_width, "elements of one of them");
    visit("value_heads", self.value_heads, "cached value vectors per token, each for a group of KV heads");
    visit("value_width", self.value_width, "elements of one of them");
    visit("value_up", self.value_up, "values of KV heads are rebuilt; else the output projection reads what is cached");
    visit("query_up", self.query_up, "keys = projected: queries are projected by a map of their own");
  }

  std::int64_t rows() const { return heads.kv_heads * heads.head_dim; }
  std::int64_t context_width() const { return value_up ? heads.head_dim : value_width; }
  bool has_key_up() const { return keys != CachedKeys::kRotated; }
};

class SplitLatentSpec final : public AttentionSpec {
 public:
  using Options = SplitLatentFields;
  explicit SplitLatentSpec(SplitLatentFields fields) : fields_(fields) {}

  std::string kind() const override { return "split_latent"; }
  Json fields() const override {
    Json all = write_fields(fields_);
    if (!fields_.query_up) all.erase("query_up");  // as files had it before
    return all;
  }
  void check(const ModelFrame& frame, const std::string& where) const override;
  std::vector<Parameter> parameters(const ModelFrame& frame) const override;
  std::optional<HeadFields> heads() const override { return fields_.heads; }
  std::vector<StreamShape> streams() const override {
    // A codec may keep keys from before their rotation under this name alone.
    return {{fields_.has_key_up() ? "key_latent" : "key", fields_.key_heads, fields_.key_width},
            {"value", fields_.value_heads, fields_.value_width}};
  }
  std::vector<std::string> provides() const override { return {kAttentionWeights}; }
  double cached_operations() const override;
  double expanded_operations() const override {
    return 4 * static_cast<double>(fields_.heads.heads * fields_.heads.head_dim);
  }
  std::int64_t rotated_pairs() const override { return fields_.heads.head_dim / 2; }
  std::optional<std::int64_t> latent_width() const override {
    return fields_.key_heads * fields_.key_width + fields_.value_heads * fields_.value_width;
  }
  /// Each layer has directions of its own.
  bool can_be_averaged(const AttentionSpec&) const override { return false; }
  std::unique_ptr<Attention> build(const ModelFrame& frame, LayerWeights weights) const override;

 private:
  SplitLatentFields fields_;
};

void SplitLatentSpec::check(const ModelFrame& frame, const std::string& where) const {
  const HeadFields& heads = fields_.heads;
  check_latent_heads(heads, frame, where);
  const auto refuse = [&](const std::string& what) { throw ConfigError(cat(where, ": ", what)); };
  if (heads.head_dim != frame.rope_dim) refuse(cat("head_dim = ", heads.head_dim, ": all of it is rotated"));
  if (heads.qk_norm) refuse("qk_norm: keys that are normalised cannot be rebuilt by linear maps");
  for (const auto& [name, groups, width] :
       {std::tuple{"key", fields_.key_heads, fields_.key_width}, {"value", fields_.value_heads, fields_.value_width}}) {
    if (groups < 1 || heads.kv_heads % groups != 0)
      refuse(cat(name, "_heads = ", groups, ": must divide kv_heads = ", heads.kv_heads));
    if (width < 1 || width > kMostHeadRows)
      refuse(cat(name, "_width = ", width, ": must be from 1 to ", kMostHeadRows));
  }
  if (!fields_.has_key_up() && (fields_.key_heads != heads.kv_heads || fields_.key_width != heads.head_dim))
    refuse("keys = rotated: key_heads and key_width are those of the KV heads");
  if (fields_.query_up && fields_.keys != CachedKeys::kProjected) refuse("query_up: only where keys = projected");
}

std::vector<Parameter> SplitLatentSpec::parameters(const ModelFrame& frame) const {
  const HeadFields& heads = fields_.heads;
  const std::int64_t values = fields_.value_heads * fields_.value_width;
  const bool rebuilt = fields_.keys == CachedKeys::kRebuilt;
  std::vector<Parameter> all;
  add_projection(all, "q_proj", heads.heads * heads.head_dim, frame.hidden, heads.query_bias, Tap::kAttentionInput);
  add_projection(all, "k_proj", rebuilt ? fields_.key_heads * fields_.key_width : fields_.rows(), frame.hidden,
                 !rebuilt && heads.key_bias, Tap::kAttentionInput);
  if (fields_.query_up) add_projection(all, "q_up_proj", fields_.rows(), fields_.key_width, false, Tap::kLatent);
  if (fields_.has_key_up())
    add_projection(all, "k_up_proj", fields_.rows(), fields_.key_width, rebuilt && heads.key_bias, Tap::kLatent);
  add_projection(all, "v_proj", values, frame.hidden, !fields_.value_up && heads.value_bias, Tap::kAttentionInput);
  if (fields_.value_up)
    add_projection(all, "v_up_proj", fields_.rows(), fields_.value_width, heads.value_bias, Tap::kLatent);
  add_projection(all, "o_proj", frame.hidden, heads.heads * fields_.context_width(), heads.output_bias,
                 Tap::kAttentionContext, ParameterRole::kResidual);
  return all;
}

double SplitLatentSpec::cached_operations() const {
  const HeadFields& heads = fields_.heads;
  const std::int64_t keys = fields_.keys == CachedKeys::kRebuilt
                                ? fields_.rows() * fields_.key_width + heads.heads * heads.head_dim
                                : heads.heads * fields_.key_width;
  return 2 * static_cast<double>(keys + heads.heads * fields_.value_width);
}

/// softmax(scale q k^T) v. `projected`: with P_j [head_dim, key_width] of KV head j, what is cached of its group is the
/// sum over its heads of rot(k_j) P_j, and a query of head j asks with rot(q) P_j (2406.07056, section 3.4), or with
/// rot(q) Q_j (KQ-SVD, 2512.05916). `rebuilt`: k_j = P_j z + b, rotated when read (2410.03111, appendix C).
class SplitLatentAttention final : public Attention {
 public:
  struct Weights {
    Linear query, key, query_up, key_up, value, value_up, output;
  };
  SplitLatentAttention(double scale, SplitLatentFields fields, Weights weights)
      : scale_(scale), fields_(fields), weights_(std::move(weights)) {}

  std::shared_ptr<const AttentionSpec> spec() const override { return std::make_shared<SplitLatentSpec>(fields_); }

  at::Tensor forward(const at::Tensor& hidden, ForwardContext& context) const override {
    const Heads now = project(hidden, context.rotary, true);
    context.show(Tap::kQueryRotated, now.query);
    const at::Tensor keys =
        fields_.keys == CachedKeys::kRebuilt ? rebuilt_keys(now.key, context.rotary, &context) : now.key;
    context.show(Tap::kKeyRotated, keys);
    const at::Tensor values = expanded_values(now.value);
    context.show(Tap::kValue, values);
    if (context.needs_attention_weights())
      return finish(attend_by_weights(now.query, keys, values, scale_, fields_.heads.window, context), context);
    const auto [k, v] = same_heads(keys, values);
    return finish(causal_attention(now.query, k, v, scale_, fields_.heads.window, context.documents), context);
  }

  at::Tensor forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const override {
    const bool rotates_later = cache.before_rotation(0);
    expects(!rotates_later || fields_.keys == CachedKeys::kRotated, "only whole keys are rotated by the cache");
    const Heads now = project(hidden, context.rotary, !rotates_later);
    const std::int64_t window = fields_.heads.window;
    const bool hands_on = context.needs_attention_weights();
    if (!rotates_later && !hands_on && decode_serves(hidden, cache))
      return finish(context_heads(decode(now, context, cache)), context);
    at::Tensor keys = cache.append(0, now.key);
    if (fields_.keys == CachedKeys::kRebuilt) keys = rebuilt_keys(keys, context.history, nullptr);
    if (rotates_later) keys = rotate_heads(keys, context.history.cosine, context.history.sine);
    const at::Tensor values = expanded_values(cache.append(1, now.value));
    if (hands_on) return finish(attend_by_weights(now.query, keys, values, scale_, window, context), context);
    const auto [k, v] = same_heads(keys, values);
    return finish(cached_attention(now.query, k, v, scale_, window, context.before), context);
  }

  void prepare_decode() override {
    if (fields_.keys == CachedKeys::kRebuilt) ready_key_maps_ = key_maps(weights_.key_up.to_dense().detach());
  }

  void visit_weights(const WeightVisitor& visit) override {
    visit.map("q_proj", weights_.query);
    visit.map("k_proj", weights_.key);
    if (fields_.query_up) visit.map("q_up_proj", weights_.query_up);
    if (fields_.has_key_up()) visit.map("k_up_proj", weights_.key_up);
    visit.map("v_proj", weights_.value);
    if (fields_.value_up) visit.map("v_up_proj", weights_.value_up);
    visit.map("o_proj", weights_.output);
  }

  std::unique_ptr<Attention> clone() const override {
    return std::make_unique<SplitLatentAttention>(
        scale_, fields_,
        Weights{weights_.query.clone(), weights_.key.clone(), weights_.query_up.clone(), weights_.key_up.clone(),
                weights_.value.clone(), weights_.value_up.clone(), weights_.output.clone()});
  }

 private:
  struct Heads {
    at::Tensor query;       ///< [batch, heads, length, width], as it is multiplied with keys
    at::Tensor key, value;  ///< [batch, key_heads, length, key_width] and likewise, as they are cached
  };

  Heads project(const at::Tensor& hidden, const RotaryTable& rotary, bool rotate_keys) const {
    const std::vector<at::Tensor> all = project_together({&weights_.query, &weights_.key, &weights_.value}, hidden);
    Heads now;
    now.query = rotate_rows(split_heads(all[0], fields_.heads.heads), rotary.cosine, rotary.sine);
    now.value = split_heads(all[2], fields_.value_heads);
    if (fields_.keys == CachedKeys::kRebuilt) {
      now.key = split_heads(all[1], fields_.key_heads);
      return now;
    }
    const at::Tensor keys = split_heads(all[1], fields_.heads.kv_heads);
    now.key = rotate_keys ? rotate_rows(keys, rotary.cosine, rotary.sine) : keys;
    if (fields_.keys == CachedKeys::kProjected) {
      now.query = projected_queries(now.query);
      now.key = projected_keys(now.key);
    }
    return now;
  }

  /// One new token for each sequence through the kernel: [batch, heads, 1, value_width]. Keys that are rebuilt are
  /// there a tile at a time: as each is turned by its own position, no product of matrices stands for them.
  at::Tensor decode(const Heads& now, const ForwardContext& context, LayerCache& cache) const {
    DecodeMemory keys{0, fields_.key_heads, 0, fields_.key_width};
    at::Tensor maps, bias;
    if (fields_.keys == CachedKeys::kRebuilt) {
      const at::Tensor& query = now.query;
      maps = ready_key_maps_.defined() ? matching(ready_key_maps_, query) : key_maps(weights_.key_up.matrix_for(query));
      if (weights_.key_up.bias().defined()) bias = matching(weights_.key_up.bias(), query).contiguous();
      const RotaryTable& history = context.history;
      keys = {0, fields_.heads.kv_heads, 0, fields_.heads.head_dim};
      keys.rotation = {history.cosine.const_data_ptr(), history.sine.const_data_ptr(), history.cosine.stride(0)};
      keys.expansion = {maps.const_data_ptr(), bias.defined() ? bias.const_data_ptr() : nullptr, fields_.key_width};
    }
    DecodeStep step(cache, {now.key, now.value});
    return step.attend({{now.query.squeeze(2), keys}}, {1, fields_.value_heads, 0, fields_.value_width}, scale_,
                       fields_.heads.window);
  }

  /// [kv_heads, key_width, head_dim] of the keys' up-projection, as the kernel reads it.
  at::Tensor key_maps(const at::Tensor& up) const {
    return up.view({fields_.heads.kv_heads, fields_.heads.head_dim, fields_.key_width}).transpose(1, 2).contiguous();
  }

  /// [kv_heads, head_dim, width] of an up-projection.
  at::Tensor directions(const Linear& up, const at::Tensor& x) const {
    return up.matrix_for(x).view({fields_.heads.kv_heads, fields_.heads.head_dim, up.columns()});
  }

  at::Tensor projected_queries(const at::Tensor& query) const {
    const HeadFields& heads = fields_.heads;
    const at::Tensor grouped =
        query.reshape({query.size(0), heads.kv_heads, heads.group() * query.size(2), heads.head_dim});
    return at::matmul(grouped, directions(fields_.query_up ? weights_.query_up : weights_.key_up, query))
        .view({query.size(0), heads.heads, query.size(2), fields_.key_width});
  }

  at::Tensor projected_keys(const at::Tensor& keys) const {
    const at::Tensor each = at::matmul(keys, directions(weights_.key_up, keys));
    return each.view({keys.size(0), fields_.key_heads, -1, keys.size(2), fields_.key_width}).sum(2);
  }

  /// Of cached vectors [batch, groups, length, width] those of all KV heads, [batch, kv_heads, length, head_dim].
  at::Tensor expanded(const at::Tensor& cached, const Linear& up) const {
    const HeadFields& heads = fields_.heads;
    const std::int64_t batch = cached.size(0), groups = cached.size(1), length = cached.size(2);
    const at::Tensor maps = up.matrix_for(cached).view({groups, -1, cached.size(3)}).transpose(1, 2);
    at::Tensor all = at::matmul(cached, maps)
                         .view({batch, groups, length, heads.kv_heads / groups, heads.head_dim})
                         .transpose(2, 3)
                         .reshape({batch, heads.kv_heads, length, heads.head_dim});
    if (up.bias().defined()) all = all + matching(up.bias(), all).view({heads.kv_heads, 1, heads.head_dim});
    return all;
  }

  at::Tensor rebuilt_keys(const at::Tensor& latent, const RotaryTable& rotary, const ForwardContext* watched) const {
    const at::Tensor keys = expanded(latent, weights_.key_up);
    if (watched) watched->show(Tap::kKey, keys);
    return rotate_heads(keys, rotary.cosine, rotary.sine);
  }

  at::Tensor expanded_values(const at::Tensor& cached) const {
    return fields_.value_up ? expanded(cached, weights_.value_up) : cached;
  }

  /// The weighted cached values of each head, [batch, heads, 1, value_width], as the output projection reads them.
  at::Tensor context_heads(const at::Tensor& cached) const {
    if (!fields_.value_up) return cached;
    const HeadFields& heads = fields_.heads;
    const at::Tensor grouped = cached.reshape({cached.size(0), heads.kv_heads, heads.group(), fields_.value_width});
    at::Tensor all = at::matmul(grouped, directions(weights_.value_up, cached).transpose(1, 2));
    const at::Tensor& bias = weights_.value_up.bias();
    if (bias.defined()) all = all + matching(bias, all).view({heads.kv_heads, 1, heads.head_dim});
    return all.reshape({cached.size(0), heads.heads, 1, heads.head_dim});
  }

  /// Keys and values with as many heads as each other, as products of them expect.
  std::pair<at::Tensor, at::Tensor> same_heads(const at::Tensor& keys, const at::Tensor& values) const {
    const std::int64_t k = keys.size(1), v = values.size(1);
    const std::int64_t both = k % v == 0 ? k : v % k == 0 ? v : fields_.heads.kv_heads;
    return {repeat_heads(keys, both / k), repeat_heads(values, both / v)};
  }

  at::Tensor finish(const at::Tensor& heads, const ForwardContext& context) const {
    const at::Tensor merged = merge_heads(heads);
    context.show(Tap::kAttentionContext, merged);
    return weights_.output(merged);
  }

  double scale_;
  SplitLatentFields fields_;
  Weights weights_;
  at::Tensor ready_key_maps_;  ///< key_maps(), of prepare_decode()
};

std::unique_ptr<Attention> SplitLatentSpec::build(const ModelFrame& frame, LayerWeights weights) const {
  SplitLatentAttention::Weights parts{weights.map("q_proj"),    weights.map("k_proj"), weights.map("q_up_proj"),
                                      weights.map("k_up_proj"), weights.map("v_proj"), weights.map("v_up_proj"),
                                      weights.map("o_proj")};
  return std::make_unique<SplitLatentAttention>(softmax_scale(frame, fields_.heads), fields_, std::move(parts));
}

const Registration<AttentionSpec, SplitLatentSpec> kSplitLatent(
    "split_latent", "a cache of keys and one of values, each of fewer elements than the heads they stand for");

}  // namespace
}  // namespace mla
