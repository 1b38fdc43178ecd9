// Mean-key latent attention: one cached vector for all heads, some of whose elements are rotated by their position, and
// a key that depends on the position alone.
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

/// What the slots, the rotated elements of what is cached, are read as.
enum class SlotUse {
  kKeys,  ///< rotated keys alone, which are cached rotated
  kDual,  ///< rotated keys, and part of the latent as well: cached as they are, rotated when they are read
};
std::vector<std::pair<std::string, SlotUse>> enum_names(SlotUse) {
  return {{"std", SlotUse::kKeys}, {"dual", SlotUse::kDual}};
}

struct MeanKeyFields {
  HeadFields heads;
  std::int64_t latent_width = 1;
  std::vector<std::int64_t> slots;
  SlotUse layout = SlotUse::kDual;
  bool position = true, down_bias = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    HeadFields::fields(self.heads, visit);
    visit("latent_width", self.latent_width, "elements of the latent per token, without the slots");
    visit("slots", self.slots, "the pair, an index into the model's frequencies, of each rotated slot; may repeat");
    visit("layout", self.layout, "dual: slots are rotated when read, and are latent, too | std: they are rotated keys");
    visit("position", self.position, "keys have a part that is made of their position alone, and is not cached");
    visit("down_bias", self.down_bias, "what is cached has a bias");
  }

  std::int64_t slot_width() const { return 2 * static_cast<std::int64_t>(slots.size()); }
  std::int64_t position_width() const { return position ? heads.head_dim : 0; }
  std::int64_t cached_width() const { return latent_width + slot_width(); }
  /// Elements that values, and keys' part without rotation, are made of.
  std::int64_t read_width() const { return layout == SlotUse::kDual ? cached_width() : latent_width; }
  std::int64_t key_width() const { return slot_width() + position_width() + read_width(); }
};

class MeanKeySpec final : public AttentionSpec {
 public:
  using Options = MeanKeyFields;
  explicit MeanKeySpec(MeanKeyFields fields) : fields_(std::move(fields)) {}

  std::string kind() const override { return "mkla"; }
  Json fields() const override { return write_fields(fields_); }
  void check(const ModelFrame& frame, const std::string& where) const override;
  std::vector<Parameter> parameters(const ModelFrame& frame) const override;
  std::optional<HeadFields> heads() const override { return fields_.heads; }
  std::vector<StreamShape> streams() const override {
    if (fields_.layout == SlotUse::kDual) return {{"latent", 1, fields_.cached_width()}};
    return {{"rope_key", 1, fields_.slot_width()}, {"latent", 1, fields_.latent_width}};
  }
  std::vector<std::string> provides() const override { return {kAttentionWeights}; }
  double cached_operations() const override {
    return 2 * static_cast<double>(fields_.heads.heads * (fields_.key_width() + fields_.read_width()));
  }
  double expanded_operations() const override {
    return 2 * static_cast<double>(fields_.heads.heads * (fields_.key_width() + fields_.heads.head_dim));
  }
  std::int64_t rotated_pairs() const override { return static_cast<std::int64_t>(fields_.slots.size()); }
  std::optional<std::int64_t> latent_width() const override { return fields_.read_width(); }
  /// Each layer has a basis of its own.
  bool can_be_averaged(const AttentionSpec&) const override { return false; }
  std::unique_ptr<Attention> build(const ModelFrame& frame, LayerWeights weights) const override;

 private:
  MeanKeyFields fields_;
};

void MeanKeySpec::check(const ModelFrame& frame, const std::string& where) const {
  const HeadFields& heads = fields_.heads;
  check_latent_heads(heads, frame, where);
  const auto refuse = [&](const std::string& what) { throw ConfigError(cat(where, ": ", what)); };
  if (heads.head_dim != frame.rope_dim) refuse(cat("head_dim = ", heads.head_dim, ": all of it is rotated"));
  if (heads.qk_norm) refuse("qk_norm: keys that are normalised are no linear maps of what is cached");
  if (heads.key_bias || heads.value_bias)
    refuse("key_bias, value_bias: those of what is cached and of the output are all there are");
  for (const std::int64_t slot : fields_.slots) {
    if (slot < 0 || slot >= frame.rope_dim / 2)
      refuse(cat("slots: ", slot, " is not a pair of head_dim ", frame.rope_dim));
  }
  if (fields_.latent_width < 0 || std::ssize(fields_.slots) > kMostHeadRows ||
      fields_.latent_width > 2 * kMostHeadRows || fields_.read_width() < 1)
    refuse(cat("latent_width = ", fields_.latent_width, ": values need from 1 to ", 2 * kMostHeadRows, " elements"));
}

std::vector<Parameter> MeanKeySpec::parameters(const ModelFrame& frame) const {
  const HeadFields& heads = fields_.heads;
  const std::int64_t rows = heads.heads * heads.head_dim;
  std::vector<Parameter> all;
  add_projection(all, "q_proj", rows, frame.hidden, heads.query_bias, Tap::kAttentionInput);
  add_projection(all, "q_up_proj", heads.heads * fields_.key_width(), heads.head_dim, false, Tap::kQuery);
  add_projection(all, "kv_down_proj", fields_.cached_width(), frame.hidden, fields_.down_bias, Tap::kAttentionInput);
  add_projection(all, "v_up_proj", heads.kv_heads * heads.head_dim, fields_.read_width(), false, Tap::kLatent);
  add_projection(all, "o_proj", frame.hidden, rows, heads.output_bias, Tap::kAttentionContext,
                 ParameterRole::kResidual);
  return all;
}

/// With c = W_c x + b_c (what is cached: latent, then the slots' real, then their imaginary parts), for head h:
///   q = E_h W_q^h x = [q_slots; q_position; q_latent], the first two rotated by the query's position,
///   k = [rot(slots of c); (cos, sin) of each pair at the key's position; latent part of c],
///   o = U_h sum softmax(scale q . k) (latent part of c).
/// The part of the position is a constant key under the source's rotation: a dot product with it is what its mean key
/// gives. In the layout dual all of c is its latent part.
class MeanKeyAttention final : public Attention {
 public:
  struct Weights {
    Linear query;     ///< [heads * head_dim, hidden], the source's
    Linear query_up;  ///< E, [heads * key_width, head_dim]
    Linear down;      ///< W_c, [cached_width, hidden]
    Linear value_up;  ///< U, [kv_heads * head_dim, read_width]
    Linear output;    ///< [hidden, heads * head_dim]
  };
  MeanKeyAttention(const ModelFrame& frame, MeanKeyFields fields, Weights weights)
      : frame_(frame),
        scale_(softmax_scale(frame, fields.heads)),
        fields_(std::move(fields)),
        weights_(std::move(weights)) {
    slots_ = at::tensor(fields_.slots, at::kLong).to(weights_.down.device());
  }

  std::shared_ptr<const AttentionSpec> spec() const override { return std::make_shared<MeanKeySpec>(fields_); }

  at::Tensor forward(const at::Tensor& hidden, ForwardContext& context) const override {
    const Projected now = project(hidden, context.rotary, &context);
    context.show(Tap::kLatent, now.cached);
    const at::Tensor query = at::cat({now.slots, now.position, now.latent}, -1);
    const at::Tensor cached = now.cached.unsqueeze(1), slots = rotated(slot_part(cached), context.rotary);
    const at::Tensor keys = keys_of(slots, cached, context.rotary);
    context.show(Tap::kQueryRotated, query);
    context.show(Tap::kKeyRotated, keys);
    const bool expand = expanding_is_cheaper(hidden.size(1), hidden.size(1));
    const at::Tensor values = expand ? expanded(read_part(cached)) : read_part(cached);
    context.show(Tap::kValue, values);
    if (context.needs_attention_weights())
      return finish(attend_by_weights(query, alike(keys, values), values, scale_, window(), context), expand, context);
    return finish(causal_attention(query, alike(keys, values), values, scale_, window(), context.documents), expand,
                  context);
  }

  at::Tensor forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const override {
    const Projected now = project(hidden, context.rotary, nullptr);
    const bool dual = fields_.layout == SlotUse::kDual, hands_on = context.needs_attention_weights();
    const at::Tensor added = now.cached.unsqueeze(1);
    if (!hands_on && context.path != DecodePath::kExpanded && decode_serves(hidden, cache))
      return finish(decode(now, added, context, cache), false, context);
    const at::Tensor query = at::cat({now.slots, now.position, now.latent}, -1);
    at::Tensor cached, slots;
    if (dual) {
      cached = cache.append(0, added);
      slots = rotated(slot_part(cached), until(context.history, cached.size(2)));
    } else {
      slots = cache.append(0, rotated(slot_part(added), context.rotary));
      cached = cache.append(1, read_part(added));
    }
    const at::Tensor keys = keys_of(slots, cached, until(context.history, cached.size(2)));
    const bool expand = context.path == DecodePath::kExpanded ||
                        (context.path == DecodePath::kAuto && expanding_is_cheaper(hidden.size(1), cached.size(2)));
    const at::Tensor values = expand ? expanded(read_part(cached)) : read_part(cached);
    if (hands_on)
      return finish(attend_by_weights(query, alike(keys, values), values, scale_, window(), context), expand, context);
    return finish(cached_attention(query, alike(keys, values), values, scale_, window(), context.before), expand,
                  context);
  }

  void visit_weights(const WeightVisitor& visit) override {
    visit.map("q_proj", weights_.query);
    visit.map("q_up_proj", weights_.query_up);
    visit.map("kv_down_proj", weights_.down);
    visit.map("v_up_proj", weights_.value_up);
    visit.map("o_proj", weights_.output);
    slots_ = slots_.to(weights_.down.device());  // they may have been moved
  }

  std::unique_ptr<Attention> clone() const override {
    return std::make_unique<MeanKeyAttention>(
        frame_, fields_,
        Weights{weights_.query.clone(), weights_.query_up.clone(), weights_.down.clone(), weights_.value_up.clone(),
                weights_.output.clone()});
  }

 private:
  /// What new tokens ask with, rotation done, [batch, heads, length, …], and leave behind.
  struct Projected {
    at::Tensor slots, position, latent;
    at::Tensor cached;  ///< [batch, length, cached_width]
  };

  /// Positions up to the last cached one; with sequences of different lengths there may be more.
  static RotaryTable until(const RotaryTable& history, std::int64_t length) {
    return {history.cosine.narrow(0, 0, length), history.sine.narrow(0, 0, length)};
  }
  std::int64_t window() const { return fields_.heads.window; }
  at::Tensor of_slots(const at::Tensor& table) const {
    return table.index_select(-1, slots_.device() == table.device() ? slots_ : slots_.to(table.device()));
  }
  at::Tensor rotated(const at::Tensor& slots, const RotaryTable& rotary) const {
    return rotate_rows(slots, of_slots(rotary.cosine), of_slots(rotary.sine));
  }
  at::Tensor slot_part(const at::Tensor& cached) const {
    return cached.narrow(-1, fields_.latent_width, fields_.slot_width());
  }
  at::Tensor read_part(const at::Tensor& cached) const { return cached.narrow(-1, 0, fields_.read_width()); }

  Projected project(const at::Tensor& hidden, const RotaryTable& rotary, const ForwardContext* watched) const {
    const std::vector<at::Tensor> both = project_together({&weights_.query, &weights_.down}, hidden);
    const std::int64_t heads = fields_.heads.heads, slot_width = fields_.slot_width();
    const at::Tensor source = split_heads(both[0], heads);
    if (watched) watched->show(Tap::kQuery, source);
    const at::Tensor maps = weights_.query_up.matrix_for(hidden);
    const at::Tensor query = at::matmul(source, maps.view({heads, -1, source.size(3)}).transpose(1, 2));
    Projected now;
    now.slots = rotated(query.narrow(-1, 0, slot_width), rotary);
    now.position = query.narrow(-1, slot_width, fields_.position_width());
    if (fields_.position) now.position = rotate_rows(now.position, rotary.cosine, rotary.sine);
    now.latent = query.narrow(-1, slot_width + fields_.position_width(), fields_.read_width());
    now.cached = both[1];
    return now;
  }

  /// Of rotated slots and what is cached [batch, 1, length, …], `rotary` holding positions from 0 on: [batch, 1,
  /// length, key_width].
  at::Tensor keys_of(const at::Tensor& slots, const at::Tensor& cached, const RotaryTable& rotary) const {
    if (!fields_.position) return at::cat({slots, read_part(cached)}, -1);
    const at::Tensor position = at::cat({rotary.cosine, rotary.sine}, -1);
    return at::cat({slots, position.expand({cached.size(0), 1, -1, -1}), read_part(cached)}, -1);
  }

  /// One new token for each sequence through the kernel: [batch, heads, 1, read_width].
  at::Tensor decode(const Projected& now, const at::Tensor& added, const ForwardContext& context,
                    LayerCache& cache) const {
    const bool dual = fields_.layout == SlotUse::kDual;
    const std::int64_t slots = fields_.slot_width(), read = fields_.read_width();
    const RotaryTable& history = context.history;
    const at::Tensor latent = dual ? added : read_part(added);
    DecodeStep step(cache, dual ? std::vector<at::Tensor>{added}
                                : std::vector<at::Tensor>{rotated(slot_part(added), context.rotary), latent});
    const std::size_t stream = dual ? 0 : 1;
    std::vector<std::pair<at::Tensor, DecodeMemory>> queries = {{now.latent.squeeze(2), {stream, 1, 0, read}}};
    if (slots > 0 && dual) {
      const DecodeRotation turn{history.cosine.const_data_ptr(), history.sine.const_data_ptr(),
                                history.cosine.stride(0), fields_.slots.data()};
      queries.push_back({now.slots.squeeze(2), {0, 1, fields_.latent_width, slots, turn}});
    } else if (slots > 0) {
      queries.push_back({now.slots.squeeze(2), {0, 1, 0, slots}});
    }
    if (fields_.position) {
      const std::int64_t pairs = fields_.position_width() / 2;
      const at::Tensor asked = now.position.squeeze(2);
      queries.push_back({asked.narrow(-1, 0, pairs), {step.add_rows(history.cosine), 1, 0, pairs}});
      queries.push_back({asked.narrow(-1, pairs, pairs), {step.add_rows(history.sine), 1, 0, pairs}});
    }
    return step.attend(queries, {stream, 1, 0, read}, scale_, window());
  }

  /// Keys [batch, 1, …] as often as there are heads of values.
  static at::Tensor alike(const at::Tensor& keys, const at::Tensor& values) {
    return keys.expand({-1, values.size(1), -1, -1});
  }

  at::Tensor value_maps(const at::Tensor& x) const {
    return weights_.value_up.matrix_for(x).view({fields_.heads.kv_heads, fields_.heads.head_dim, -1});
  }
  /// The values of the KV heads, [batch, kv_heads, length, head_dim].
  at::Tensor expanded(const at::Tensor& latent) const { return at::matmul(latent, value_maps(latent).transpose(1, 2)); }

  bool expanding_is_cheaper(std::int64_t queries, std::int64_t keys) const {
    const double width = static_cast<double>(fields_.heads.head_dim), read = static_cast<double>(fields_.read_width());
    const double asked = static_cast<double>(queries * fields_.heads.heads), held = static_cast<double>(keys);
    return held * static_cast<double>(fields_.heads.kv_heads) * width * read + asked * held * width <
           asked * width * read + asked * held * read;
  }

  /// `summed`: of all heads the weighted values, or latents that stand for them.
  at::Tensor finish(const at::Tensor& summed, bool are_values, const ForwardContext& context) const {
    at::Tensor heads = summed;
    if (!are_values) {
      const std::int64_t kv_heads = fields_.heads.kv_heads, queries = summed.size(2);
      const at::Tensor grouped =
          summed.reshape({summed.size(0), kv_heads, fields_.heads.group() * queries, summed.size(3)});
      heads = at::matmul(grouped, value_maps(summed).transpose(1, 2))
                  .reshape({summed.size(0), fields_.heads.heads, queries, fields_.heads.head_dim});
    }
    const at::Tensor merged = merge_heads(heads);
    context.show(Tap::kAttentionContext, merged);
    return weights_.output(merged);
  }

  ModelFrame frame_;
  double scale_;
  MeanKeyFields fields_;
  Weights weights_;
  at::Tensor slots_;  ///< the slots' pairs, int64
};

std::unique_ptr<Attention> MeanKeySpec::build(const ModelFrame& frame, LayerWeights weights) const {
  MeanKeyAttention::Weights parts{weights.map("q_proj"), weights.map("q_up_proj"), weights.map("kv_down_proj"),
                                  weights.map("v_up_proj"), weights.map("o_proj")};
  return std::make_unique<MeanKeyAttention>(frame, fields_, std::move(parts));
}

const Registration<AttentionSpec, MeanKeySpec> kMeanKeyAttention(
    "mkla", "one cached vector for all heads, partly rotated, and a key made of the position alone");

}  // namespace
}  // namespace mla
