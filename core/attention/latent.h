// Multi-head latent attention: keys and values rebuilt from a cached latent, with a few rotated key dims beside it.
#pragma once

#include "core/attention/attention.h"
#include "core/attention/linear.h"
#include "core/low_rank/factorizer.h"
#include "core/partial_rope/key_rotation.h"

namespace mla {

/// Of the norm on the latent, which transformers gives it whatever the model's own is.
inline constexpr double kLatentNormEpsilon = 1e-6;

/// Shape of a latent attention layer.
struct LatentLayout {
  /// Rotation pairs (indices of the model's frequencies) of each rotated key. One entry per KV head (MHA2MLA), or a
  /// single one for a rotated key shared by all heads (DeepSeek-V2). All entries have the same length; it may be 0.
  KeptPairs kept;
  std::int64_t content_width = 0;  ///< position-free dims of a query or key head
  std::int64_t value_width = 0;    ///< dims of a value head
  std::int64_t latent_width = 0;   ///< elements of the latent, cached once per token for all heads
  LatentSlice key, value;          ///< the parts of the latent that keys and values are rebuilt from
  bool key_up = true;              ///< false: the key slice of the latent is the content key itself
  bool value_up = true;            ///< false: the value slice is the value itself
  bool norms_per_head = false;     ///< QK-norm weights: one for each head, since heads keep different pairs
  bool latent_norm = false;        ///< the latent is normalised before it is cached, as DeepSeek's is

  std::int64_t rope_heads() const { return static_cast<std::int64_t>(kept.size()); }
  std::int64_t rope_width() const { return kept.empty() ? 0 : 2 * static_cast<std::int64_t>(kept.front().size()); }
  /// Whether keys and values are cached as they are: partial RoPE without a low-rank step.
  bool is_partial_rope() const { return !key_up && !value_up; }

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("kept_pairs", self.kept, "rotation pairs of each rotated key, indices into the model's frequencies");
    visit("content_width", self.content_width, "position-free dims of a head");
    visit("value_width", self.value_width, "dims of a value head");
    visit("latent_width", self.latent_width, "elements of the latent per token");
    visit("key_slice", self.key, "[begin, width] of the latent that keys are rebuilt from");
    visit("value_slice", self.value, "[begin, width] of the latent that values are rebuilt from");
    visit("key_up", self.key_up, "keys have an up-projection");
    visit("value_up", self.value_up, "values have an up-projection");
    visit("norms_per_head", self.norms_per_head, "each head has QK-norm weights of its own");
    visit("latent_norm", self.latent_norm, "the latent is normalised before it is cached, as DeepSeek's is");
  }
};

/// A layer of latent attention: the heads of its source, and its layout.
class LatentSpec final : public AttentionSpec {
 public:
  struct Options {
    LatentLayout layout;
    HeadFields heads;
    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      LatentLayout::fields(self.layout, visit);
      HeadFields::fields(self.heads, visit);
    }
  };
  explicit LatentSpec(Options options) : options_(std::move(options)) {}

  std::string kind() const override { return "latent"; }
  Json fields() const override;
  void check(const ModelFrame& frame, const std::string& where) const override;
  std::vector<Parameter> parameters(const ModelFrame& frame) const override;
  std::vector<StreamShape> streams() const override;
  std::optional<HeadFields> heads() const override { return options_.heads; }
  std::vector<std::string> provides() const override { return {kAttentionWeights}; }
  double cached_operations() const override;
  double expanded_operations() const override;
  std::int64_t rotated_pairs() const override { return options_.layout.rope_width() / 2; }
  std::optional<std::int64_t> latent_width() const override { return options_.layout.latent_width; }
  bool can_be_averaged(const AttentionSpec& other) const override;
  std::unique_ptr<Attention> build(const ModelFrame& frame, LayerWeights weights) const override;

  const LatentLayout& layout() const { return options_.layout; }

 private:
  Options options_;
};

/// With c = W_down x (the latent) and, per head h of KV head j:
///   q = W_q x = [q_rope; q_content],  k_rope = W_kr x,  k_content = W_uk^j c[key],  v = W_uv^j c[value]
///   o = softmax(scale (rot(q_rope) . rot(k_rope) + q_content . k_content)) v
/// (MHA2MLA, arXiv 2502.14837, section 3; frequencies are those of the kept pairs, the scale is the source model's; the
/// latent is not normalised, but in models that were read from DeepSeek's form, by kLatentNormEpsilon). An
/// up-projection without a weight stands for the identity: its slice of the latent is the content key or the value
/// itself. QK-norm, which is not linear in x, is possible with such keys only, and is then applied before they are
/// cached. Caches rope_heads * rope_width + latent_width elements per token.
class LatentAttention final : public Attention {
 public:
  struct Weights {
    Linear query;            ///< [heads * (rope_width + content_width), hidden]; per head first the pairs' first dims,
                             ///< then their partners, then the content dims
    Linear rope_key;         ///< [rope_heads * rope_width, hidden], ordered as the queries' rotated dims
    Linear down;             ///< [latent_width, hidden], no bias
    Linear key_up;           ///< [kv_heads * content_width, key.width], or no weight
    Linear value_up;         ///< [kv_heads * value_width, value.width], or no weight
    Linear output;           ///< [hidden, heads * value_width]
    at::Tensor query_norm;   ///< QK-norm in the order of `query`'s rows: [width] or [heads, width]; may be undefined
    at::Tensor key_norm;     ///< likewise [width] or [kv_heads, width]
    at::Tensor latent_norm;  ///< [latent_width]; undefined unless the layout has it
  };

  /// Throws std::logic_error when shapes do not fit the layout.
  LatentAttention(const ModelFrame& frame, HeadFields heads, LatentLayout layout, Weights weights);

  std::shared_ptr<const AttentionSpec> spec() const override;
  at::Tensor forward(const at::Tensor& hidden, ForwardContext& context) const override;
  at::Tensor forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const override;
  void visit_weights(const WeightVisitor& visit) override;
  std::unique_ptr<Attention> clone() const override;

  /// How W_uk and W_uv are taken into queries and outputs when decoding: multiplied at each step, or once into the
  /// query and output projections, which grow or shrink by latent width / head width; kAuto: what reads fewer weights,
  /// and at each step where the projection is not dense.
  enum class Absorption { kAuto, kEachStep, kOnce };
  /// Chooses for the steps to come, and multiplies where that is to be done once. Weights must not change afterwards.
  void prepare_decode(Absorption absorption);
  void prepare_decode() override { prepare_decode(Absorption::kAuto); }

  const LatentLayout& layout() const { return layout_; }
  const ModelFrame& frame() const { return frame_; }
  const HeadFields& heads() const { return heads_; }
  const Weights& weights() const { return weights_; }

 private:
  /// What one token leaves behind and asks with, rotation done.
  struct Projected {
    at::Tensor query;     ///< [batch, heads, length, rope_width + content_width]
    at::Tensor rope_key;  ///< [batch, rope_heads, length, rope_width]
    at::Tensor latent;    ///< [batch, length, latent_width]
  };
  /// `query` is weights_.query, or what prepare_decode() made of it.
  Projected project(const at::Tensor& hidden, const RotaryTable& rotary, const Linear& query,
                    bool rotate_keys = true) const;
  RotaryTable gather(const RotaryTable& rotary) const;
  at::Tensor content_keys(const at::Tensor& latent) const;
  at::Tensor values(const at::Tensor& latent) const;
  at::Tensor keys_of(const at::Tensor& rope_key, const at::Tensor& latent) const;
  at::Tensor attend_absorbed(const Projected& now, const at::Tensor& rope_key, const at::Tensor& latent,
                             const std::vector<std::int64_t>& before) const;
  at::Tensor decode(const at::Tensor& hidden, const ForwardContext& context, LayerCache& cache) const;
  at::Tensor output_of(const at::Tensor& context) const;
  at::Tensor finish(const at::Tensor& context_heads, const ForwardContext& context) const;
  bool absorbing_is_cheaper(std::int64_t queries, std::int64_t keys) const;

  ModelFrame frame_;
  HeadFields heads_;
  double scale_ = 1;
  LatentLayout layout_;
  Weights weights_;
  at::Tensor pair_index_;    ///< flat indices into the frequencies, int64
  bool same_pairs_ = true;   ///< every rotated key has the same pairs
  Linear absorbing_query_;   ///< [heads * (rope_width + key.width), hidden]; undefined unless prepared
  Linear absorbing_output_;  ///< [hidden, heads * value.width], W_o W_uv; undefined unless prepared
  /// W_uk and W_uv where they are not held dense; undefined unless prepared.
  Linear ready_key_up_, ready_value_up_;
};

/// `attention` as what it is where it is of this kind, else null.
const LatentAttention* as_latent(const Attention& attention);
/// The layout of a layer of this kind, else null.
const LatentLayout* latent_layout(const AttentionSpec& spec);

}  // namespace mla
