// What one attention layer is, apart from its weights: the interface of every kind of attention.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/attention/linear.h"
#include "core/attention/rotary.h"
#include "core/attention/taps.h"
#include "core/base/json.h"
#include "core/kv_cache/layer_cache.h"

namespace mla {

class Attention;

/// What all layers of a model share, whatever their kinds.
struct ModelFrame {
  std::int64_t hidden = 0;            ///< width of the residual stream
  double norm_epsilon = 1e-6;         ///< of every RMSNorm
  std::int64_t max_positions = 2048;  ///< context length in tokens
  double rope_theta = 10000;
  RotaryScaling rope_scaling;
  std::int64_t rope_dim = 0;    ///< head width that the rotary frequencies are those of: there are rope_dim / 2 pairs
  double local_rope_theta = 0;  ///< of layers that rotate by RopeUse::kLocal; 0: there are none
  bool norms_add_one = false;   ///< norms multiply by 1 + their weights

  Rotary rotary(RopeUse use = RopeUse::kModel) const;
  bool operator==(const ModelFrame&) const = default;
};

/// The heads of one layer as published models state them; a converted layer keeps those of its source.
struct HeadFields {
  std::int64_t heads = 0;     ///< query heads
  std::int64_t kv_heads = 0;  ///< key/value heads; query head h reads KV head h / (heads / kv_heads)
  std::int64_t head_dim = 0;  ///< logits are divided by its square root
  std::int64_t window = 0;    ///< sliding window in tokens, the query's own included; 0: all earlier tokens
  bool query_bias = false, key_bias = false, value_bias = false, output_bias = false;
  bool qk_norm = false;
  bool qk_norm_whole = false;      ///< QK-norm is over all heads of a projection together, not over each
  RopeUse rope = RopeUse::kModel;  ///< how queries and keys are rotated
  double query_scalar = 0;         ///< logits are divided by its square root; 0: by that of head_dim
  double soft_cap = 0;             ///< a logit x becomes cap * tanh(x / cap); 0: it stays

  std::int64_t group() const { return heads / kv_heads; }
  bool operator==(const HeadFields&) const = default;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("heads", self.heads, "query heads");
    visit("kv_heads", self.kv_heads, "key/value heads");
    visit("head_dim", self.head_dim, "width of a head of the source; logits are divided by its square root");
    visit("window", self.window, "sliding window in tokens; 0: none");
    visit("query_bias", self.query_bias, "queries have a bias");
    visit("key_bias", self.key_bias, "keys have a bias");
    visit("value_bias", self.value_bias, "values have a bias");
    visit("output_bias", self.output_bias, "the output projection has a bias");
    visit("qk_norm", self.qk_norm, "queries and keys are normalised");
    visit("qk_norm_whole", self.qk_norm_whole, "they are normalised over all heads together, not head by head");
    visit("rope", self.rope,
          "how queries and keys are rotated: model | local (the base of layers with a window) | none");
    visit("query_scalar", self.query_scalar, "logits are divided by its square root; 0: by that of head_dim");
    visit("soft_cap", self.soft_cap, "a logit x becomes cap * tanh(x / cap); 0: it stays");
  }
};

/// 1/sqrt(head_dim), or of what the layer states instead, times its rotary embedding's logit scale.
double softmax_scale(const ModelFrame& frame, const HeadFields& heads);

/// RMSNorm over the last dimension as the model's norms are, in x's dtype: `weight` [width], or a shape that broadcasts
/// against x.
at::Tensor normalised(const at::Tensor& x, const at::Tensor& weight, const ModelFrame& frame);

/// Why only grouped-query attention computes what these heads state, and what serves them; empty: other kinds do, too.
std::string only_grouped_query(const HeadFields& heads);

enum class ParameterRole {
  kWeight,    ///< of a linear map
  kResidual,  ///< of a linear map that writes into the residual stream
  kBias,
  kNorm,
};

/// One tensor of a layer: its name as files give it, relative to the layer ("q_proj.weight"), and its shape.
struct Parameter {
  std::string name;
  std::vector<std::int64_t> shape;
  ParameterRole role = ParameterRole::kWeight;
  /// Where the input of the linear map passes; an up-projection may read a slice of it. None: a bias, a norm, a table.
  std::optional<Tap> input;

  std::int64_t count() const;
  bool operator==(const Parameter&) const = default;
};

/// One layer's attention, of a registered kind with fields of its own. Immutable, and shared by copies of a model's
/// description. A new kind is one file: its spec, its layer, and `const Registration<AttentionSpec, …>`; its Options
/// are the fields that config.json states, HeadFields among them where it has heads.
class AttentionSpec {
 public:
  static constexpr const char* kKind = "attention";
  virtual ~AttentionSpec() = default;

  /// The registered name, and all fields, as config.json states them.
  virtual std::string kind() const = 0;
  virtual Json fields() const = 0;

  /// Throws ConfigError, "WHERE: what is wrong", for fields that no layer of the frame can have.
  virtual void check(const ModelFrame& frame, const std::string& where) const = 0;

  /// The layer's tensors, in the order of files.
  virtual std::vector<Parameter> parameters(const ModelFrame& frame) const = 0;

  /// The heads as published models state them; nothing for a kind that has none.
  virtual std::optional<HeadFields> heads() const { return {}; }

  /// What the layer caches of each token; none: nothing.
  virtual std::vector<StreamShape> streams() const = 0;

  /// What the layer takes from layers before it within a forward pass, and what it can give to those after it: names of
  /// slots (core/attention/forward_context.h).
  virtual std::vector<std::string> reads() const { return {}; }
  virtual std::vector<std::string> provides() const { return {}; }

  /// Operations of one query over one token in all heads: over the cache as a decoding step reads it, and over keys and
  /// values as they are. What projections need follows from parameters().
  virtual double cached_operations() const = 0;
  virtual double expanded_operations() const = 0;

  /// Rotation pairs of a key, where keys are rotated, and elements of the latent, where there is one: for people.
  virtual std::int64_t rotated_pairs() const { return 0; }
  virtual std::optional<std::int64_t> latent_width() const { return {}; }

  /// Whether the mean of two layers of this description means anything. It does not where each layer has a basis of its
  /// own.
  virtual bool can_be_averaged(const AttentionSpec& other) const = 0;

  /// The layer of this description with these weights, which have the shapes of parameters().
  virtual std::unique_ptr<Attention> build(const ModelFrame& frame, LayerWeights weights) const = 0;

  /// Parameters of the layer, norms of queries and keys included.
  std::int64_t parameter_count(const ModelFrame& frame) const;
};

/// How the layer's queries and keys are rotated; by the model's frequencies where it has none.
RopeUse rope_use(const AttentionSpec& attention);

/// Whether both are of one kind and agree in every field.
bool operator==(const AttentionSpec& a, const AttentionSpec& b);

/// The parameters of a linear map NAME: its weight [rows, columns], and its bias [rows] where it has one;
/// `input`: where what it maps passes.
void add_projection(std::vector<Parameter>& parameters, const std::string& name, std::int64_t rows,
                    std::int64_t columns, bool bias, Tap input, ParameterRole role = ParameterRole::kWeight);

/// Throws ConfigError for heads that no layer can have.
void check_heads(const HeadFields& heads, const ModelFrame& frame, const std::string& where);
/// The same for a layer that caches a latent: also for what only_grouped_query() names.
void check_latent_heads(const HeadFields& heads, const ModelFrame& frame, const std::string& where);

}  // namespace mla
