// One wide key/value head for many query heads, whose queries are factored (MFA and MFA-KR, arXiv 2412.19255).
#include <ATen/ATen.h>

#include <utility>

#include "core/attention/attention.h"
#include "core/attention/attention_weights.h"
#include "core/attention/decode_step.h"
#include "core/attention/limits.h"
#include "core/attention/pieces.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/rms_norm.h"
#include "core/ops/rotary_embedding.h"

namespace mla {
namespace {

/// Fields of a layer. The heads are the query heads; kv_heads are those of the model that the layer was made from, one
/// in a model that was trained so.
struct MfaFields {
  HeadFields heads;
  std::int64_t key_width = 0, value_width = 0;
  std::vector<std::int64_t> pairs;
  std::int64_t query_rank = 0;
  bool query_norm = false, key_reuse = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    HeadFields::fields(self.heads, visit);
    visit("key_width", self.key_width, "width of the one key, and of each query; 0: head_dim");
    visit("value_width", self.value_width, "width of the one value; 0: that of the key");
    visit("pairs", self.pairs,
          "of each rotation pair of the key the model's pair whose frequency it has; none: its own");
    visit("query_rank", self.query_rank,
          "width from which the queries of all heads are made; 0: queries of one matrix");
    visit("query_norm", self.query_norm, "what queries are made from is normalised (as in Step-3)");
    visit("key_reuse", self.key_reuse, "MFA-KR: values are made of keys, before their rotation; keys alone are cached");
  }

  std::int64_t key() const { return key_width > 0 ? key_width : heads.head_dim; }
  std::int64_t value() const { return value_width > 0 ? value_width : key(); }
};

class MfaSpec final : public AttentionSpec {
 public:
  using Options = MfaFields;
  explicit MfaSpec(MfaFields fields) : fields_(std::move(fields)) {}

  std::string kind() const override { return "mfa"; }
  Json fields() const override { return write_fields(fields_); }
  void check(const ModelFrame& frame, const std::string& where) const override;
  std::vector<Parameter> parameters(const ModelFrame& frame) const override;
  std::optional<HeadFields> heads() const override { return fields_.heads; }
  std::vector<StreamShape> streams() const override {
    // Keys that are cached before their rotation are rotated by the layer, whatever a codec would do with a "key".
    if (fields_.key_reuse) return {{"key_latent", 1, fields_.key()}};
    return {{"key", 1, fields_.key()}, {"value", 1, fields_.value()}};
  }
  std::vector<std::string> provides() const override { return {kAttentionWeights}; }
  double cached_operations() const override {
    // Six operations rotate a pair.
    return expanded_operations() + (fields_.key_reuse ? 3 * static_cast<double>(fields_.key()) : 0);
  }
  double expanded_operations() const override {
    return 2 * static_cast<double>(fields_.heads.heads * (fields_.key() + fields_.value()));
  }
  std::int64_t rotated_pairs() const override { return fields_.key() / 2; }
  std::optional<std::int64_t> latent_width() const override {
    return fields_.key_reuse ? std::optional(fields_.key()) : std::nullopt;
  }
  /// Each layer has a basis of its own.
  bool can_be_averaged(const AttentionSpec&) const override { return false; }
  std::unique_ptr<Attention> build(const ModelFrame& frame, LayerWeights weights) const override;

 private:
  MfaFields fields_;
};

void MfaSpec::check(const ModelFrame& frame, const std::string& where) const {
  const HeadFields& heads = fields_.heads;
  check_latent_heads(heads, frame, where);
  const auto refuse = [&](const std::string& what) { throw ConfigError(cat(where, what)); };
  const std::int64_t most = kMostHeadRows / heads.heads;
  if (fields_.key_width < 0 || fields_.key() % 2 != 0 || fields_.key() > most)
    refuse(cat(".key_width = ", fields_.key_width, ": must be even, from 2 to ", most));
  if (fields_.value_width < 0 || fields_.value() > most)
    refuse(cat(".value_width = ", fields_.value_width, ": must be from 1 to ", most));
  if (fields_.query_rank < 0 || fields_.query_rank > kMostHeadRows)
    refuse(cat(".query_rank = ", fields_.query_rank, ": must be from 0 to ", kMostHeadRows));
  if (fields_.query_norm && fields_.query_rank == 0)
    refuse(".query_norm: there is nothing to normalise without a query_rank");
  if (heads.qk_norm) refuse(".qk_norm: the one key has no norm; query_norm normalises what queries are made from");
  if (fields_.key_reuse && fields_.value() != fields_.key())
    refuse(cat(".value_width = ", fields_.value_width, ": values that are made of keys are as wide as these"));
  if (fields_.key_reuse && heads.value_bias) refuse(".value_bias: values that are made of keys have none");
  const std::int64_t known = frame.rope_dim / 2;
  if (fields_.pairs.empty() && fields_.key() != frame.rope_dim) {
    refuse(cat(".key_width = ", fields_.key(), ": the model's frequencies are those of width ", frame.rope_dim,
               "; another width names its pairs"));
  }
  if (!fields_.pairs.empty() && std::ssize(fields_.pairs) != fields_.key() / 2)
    refuse(cat(".pairs: expected ", fields_.key() / 2, " of them, found ", fields_.pairs.size()));
  for (const std::int64_t pair : fields_.pairs) {
    if (pair < 0 || pair >= known) refuse(cat(".pairs: ", pair, ": the model has pairs 0 to ", known - 1));
  }
}

std::vector<Parameter> MfaSpec::parameters(const ModelFrame& frame) const {
  const HeadFields& heads = fields_.heads;
  const std::int64_t queries = heads.heads * fields_.key(), rank = fields_.query_rank;
  std::vector<Parameter> all;
  if (rank == 0) {
    add_projection(all, "q_proj", queries, frame.hidden, heads.query_bias, Tap::kAttentionInput);
  } else {
    add_projection(all, "q_down_proj", rank, frame.hidden, false, Tap::kAttentionInput);
    if (fields_.query_norm) all.push_back({"q_norm.weight", {rank}, ParameterRole::kNorm, {}});
    add_projection(all, "q_up_proj", queries, rank, heads.query_bias, Tap::kLatent);
  }
  add_projection(all, "k_proj", fields_.key(), frame.hidden, heads.key_bias, Tap::kAttentionInput);
  if (fields_.key_reuse) {
    add_projection(all, "v_reuse_proj", fields_.key(), fields_.key(), false, Tap::kKey);
    // Zero in a new model, where values are then the keys.
    all.push_back({"v_gate.bias", {fields_.key()}, ParameterRole::kBias, {}});
  } else {
    add_projection(all, "v_proj", fields_.value(), frame.hidden, heads.value_bias, Tap::kAttentionInput);
  }
  add_projection(all, "o_proj", frame.hidden, heads.heads * fields_.value(), heads.output_bias, Tap::kAttentionContext,
                 ParameterRole::kResidual);
  return all;
}

/// softmax(scale rot(q_c) rot(k)^T) v with q_c = Q_c S_q x of head c, k = S_k x and v = S_v x of all heads (section
/// 3.1); with key reuse v = k + alpha * (N k), of keys before their rotation, so that v says nothing of the position:
/// alpha zero at first. All of a query and of the key is rotated.
class MfaAttention final : public Attention {
 public:
  struct Weights {
    Linear query, query_down, key, value, gate,
        output;  ///< `query` makes them of what query_down gives, if there is one
    at::Tensor query_norm;
  };
  MfaAttention(const ModelFrame& frame, MfaFields fields, Weights weights)
      : frame_(frame),
        fields_(std::move(fields)),
        scale_(softmax_scale(frame, fields_.heads)),
        pairs_(at::tensor(fields_.pairs, at::kLong)),
        weights_(std::move(weights)) {
    pairs_ = pairs_.to(weights_.output.device());
  }

  std::shared_ptr<const AttentionSpec> spec() const override { return std::make_shared<MfaSpec>(fields_); }

  at::Tensor forward(const at::Tensor& hidden, ForwardContext& context) const override {
    const Heads now = project(hidden, &context);
    context.show(Tap::kQuery, now.query);
    context.show(Tap::kKey, now.key);
    const RotaryTable table = own_pairs(context.rotary);
    const at::Tensor query = rotate_heads(now.query, table.cosine, table.sine);
    const at::Tensor key = rotate_heads(now.key, table.cosine, table.sine);
    context.show(Tap::kQueryRotated, query);
    context.show(Tap::kKeyRotated, key);
    const at::Tensor value = fields_.key_reuse ? reused(now.key) : now.value;
    context.show(Tap::kValue, value);
    if (context.needs_attention_weights())
      return finish(attend_by_weights(query, key, value, scale_, fields_.heads.window, context), context);
    return finish(causal_attention(query, key, value, scale_, fields_.heads.window, context.documents), context);
  }

  at::Tensor forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const override {
    const Heads now = project(hidden, nullptr);
    const RotaryTable table = own_pairs(context.rotary);
    const at::Tensor query = rotate_rows(now.query, table.cosine, table.sine);
    if (fields_.key_reuse) return reuse_cached(hidden, query, now.key, context, cache);
    const bool rotates_later = cache.before_rotation(0), hands_on = context.needs_attention_weights();
    const at::Tensor new_key = rotates_later ? now.key : rotate_rows(now.key, table.cosine, table.sine);
    if (!rotates_later && !hands_on && decode_serves(hidden, cache)) {
      const DecodeMemory keys{0, 1, 0, fields_.key()}, values{1, 1, 0, fields_.value()};
      DecodeStep decode(cache, {new_key, now.value});
      return finish(decode.attend({{query.squeeze(2), keys}}, values, scale_, fields_.heads.window), context);
    }
    at::Tensor key = cache.append(0, new_key);
    if (rotates_later) key = rotated_history(key, context);
    return finish(attend_cached(query, key, cache.append(1, now.value), context), context);
  }

  void visit_weights(const WeightVisitor& visit) override {
    if (fields_.query_rank == 0) {
      visit.map("q_proj", weights_.query);
    } else {
      visit.map("q_down_proj", weights_.query_down);
      if (fields_.query_norm) visit.tensor("q_norm.weight", weights_.query_norm);
      visit.map("q_up_proj", weights_.query);
    }
    visit.map("k_proj", weights_.key);
    visit.map(fields_.key_reuse ? "v_reuse_proj" : "v_proj", weights_.value);
    if (fields_.key_reuse) visit.map("v_gate", weights_.gate);
    visit.map("o_proj", weights_.output);
    pairs_ = pairs_.to(weights_.output.device());  // they may have been moved
  }

  std::unique_ptr<Attention> clone() const override {
    const at::Tensor& norm = weights_.query_norm;
    return std::make_unique<MfaAttention>(
        frame_, fields_,
        Weights{weights_.query.clone(), weights_.query_down.clone(), weights_.key.clone(), weights_.value.clone(),
                weights_.gate.clone(), weights_.output.clone(), norm.defined() ? norm.detach().clone() : norm});
  }

 private:
  struct Heads {
    at::Tensor query;       ///< [batch, heads, length, key width], before the rotation, as the key
    at::Tensor key, value;  ///< [batch, 1, length, width]; no value where it is made of the key
  };

  Heads project(const at::Tensor& hidden, const ForwardContext* watched) const {
    const bool factored = fields_.query_rank > 0;
    std::vector<const Linear*> maps{factored ? &weights_.query_down : &weights_.query, &weights_.key};
    if (!fields_.key_reuse) maps.push_back(&weights_.value);
    const std::vector<at::Tensor> all = project_together(maps, hidden);
    at::Tensor query = all[0];
    if (fields_.query_norm) query = rms_norm(query, matching(weights_.query_norm, hidden), frame_.norm_epsilon);
    if (factored && watched) watched->show(Tap::kLatent, query);
    if (factored) query = weights_.query(query);
    return {split_heads(query, fields_.heads.heads), all[1].unsqueeze(1),
            fields_.key_reuse ? at::Tensor() : all[2].unsqueeze(1)};
  }

  /// The columns of the model's tables that the key's pairs have.
  RotaryTable own_pairs(const RotaryTable& all) const {
    if (fields_.pairs.empty()) return all;
    const at::Tensor index = pairs_.to(all.cosine.device());
    return {all.cosine.index_select(-1, index), all.sine.index_select(-1, index)};
  }

  at::Tensor rotated_history(const at::Tensor& key, const ForwardContext& context) const {
    const RotaryTable table = own_pairs(context.history);
    return rotate_heads(key, table.cosine, table.sine);
  }

  /// k + alpha * (N k), of keys or of weighted sums of keys.
  at::Tensor reused(const at::Tensor& key) const {
    return key + matching(weights_.gate.bias(), key) * weights_.value(key);
  }

  at::Tensor attend_cached(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           ForwardContext& context) const {
    if (context.needs_attention_weights())
      return attend_by_weights(query, key, value, scale_, fields_.heads.window, context);
    return cached_attention(query, key, value, scale_, fields_.heads.window, context.before);
  }

  /// Values are linear in the keys: these are summed up first. The kernel rotates keys a tile at a time, and sums them
  /// up as they were.
  at::Tensor reuse_cached(const at::Tensor& hidden, const at::Tensor& query, const at::Tensor& new_key,
                          ForwardContext& context, LayerCache& cache) const {
    if (!context.needs_attention_weights() && decode_serves(hidden, cache)) {
      const RotaryTable& history = context.history;
      const DecodeRotation turn{history.cosine.const_data_ptr(), history.sine.const_data_ptr(),
                                history.cosine.stride(0), fields_.pairs.empty() ? nullptr : fields_.pairs.data()};
      const DecodeMemory values{0, 1, 0, fields_.key()};
      DecodeMemory keys = values;
      keys.rotation = turn;
      DecodeStep decode(cache, {new_key});
      return finish(reused(decode.attend({{query.squeeze(2), keys}}, values, scale_, fields_.heads.window)), context);
    }
    const at::Tensor key = cache.append(0, new_key);
    return finish(reused(attend_cached(query, rotated_history(key, context), key, context)), context);
  }

  at::Tensor finish(const at::Tensor& heads, const ForwardContext& context) const {
    const at::Tensor merged = merge_heads(heads);
    context.show(Tap::kAttentionContext, merged);
    return weights_.output(merged);
  }

  ModelFrame frame_;
  MfaFields fields_;
  double scale_ = 1;
  at::Tensor pairs_;
  Weights weights_;
};

std::unique_ptr<Attention> MfaSpec::build(const ModelFrame& frame, LayerWeights weights) const {
  const bool factored = fields_.query_rank > 0;
  MfaAttention::Weights parts{weights.map(factored ? "q_up_proj" : "q_proj"),
                              weights.map("q_down_proj"),
                              weights.map("k_proj"),
                              weights.map(fields_.key_reuse ? "v_reuse_proj" : "v_proj"),
                              weights.map("v_gate"),
                              weights.map("o_proj"),
                              weights.tensor("q_norm.weight")};
  return std::make_unique<MfaAttention>(frame, fields_, std::move(parts));
}

const Registration<AttentionSpec, MfaSpec> kMfa(
    "mfa", "one wide key and value for all heads, queries of a factored matrix; or values made of keys (MFA, MFA-KR)");

}  // namespace
}  // namespace mla
