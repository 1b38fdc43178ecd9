// The interface of an attention layer, whatever it caches.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/attention/rotary.h"
#include "core/kv_cache/layer_cache.h"

namespace mla {

/// What all kinds of attention have in common.
struct AttentionGeometry {
  std::int64_t hidden = 0;    ///< width of the residual stream
  std::int64_t heads = 0;     ///< query heads
  std::int64_t kv_heads = 0;  ///< key/value heads; query head h reads KV head h / (heads / kv_heads)
  std::int64_t head_dim = 0;
  double softmax_scale = 1;    ///< 1/sqrt(head_dim), times the rotary embedding's logit scale
  std::int64_t window = 0;     ///< sliding window in tokens, the query's own included; 0: all earlier tokens
  double norm_epsilon = 1e-6;  ///< of QK-norm, where the layer has it
  std::int64_t group() const { return heads / kv_heads; }
};

/// Called with queries [batch, heads, length, head_dim] and keys [batch, kv_heads, length, head_dim] as they enter the
/// rotation (after biases and QK-norm). Used for calibration.
using QueryKeyProbe = std::function<void(const at::Tensor& queries, const at::Tensor& keys)>;

/// How attention over a latent cache is computed.
enum class DecodePath {
  kAuto,      ///< whichever needs fewer operations
  kAbsorbed,  ///< queries are taken into the latent space; the latent serves as key and value
  kExpanded,  ///< keys and values are rebuilt from the latent
};

inline std::vector<std::pair<std::string, DecodePath>> enum_names(DecodePath) {
  return {{"auto", DecodePath::kAuto}, {"absorbed", DecodePath::kAbsorbed}, {"expanded", DecodePath::kExpanded}};
}

/// Where the new tokens of a step stand.
struct CachedStep {
  RotaryTable
      rotary;  ///< of the new tokens, [length, …]; [batch * length, …] where sequences stand at different positions
  RotaryTable history;  ///< of positions 0 to the end of the longest sequence, where a cache rotates keys when read
};

/// One attention layer. Dtypes: weights may be stored narrower than the hidden state; arithmetic is the hidden state's.
class Attention {
 public:
  virtual ~Attention() = default;

  /// Causal attention over a whole sequence without a cache, for training and scoring.
  /// hidden [batch, length, hidden]; `rotary` holds the same length. Returns [batch, length, hidden].
  /// `probe` may be empty. `documents` int64 [batch, length] holds the first position that each token may look at;
  /// undefined: position 0.
  virtual at::Tensor forward(const at::Tensor& hidden, const RotaryTable& rotary, const QueryKeyProbe& probe,
                             const at::Tensor& documents) const = 0;

  /// Appends hidden's tokens to the cache (of each sequence as many as LayerCache::begin_step said) and attends to all
  /// tokens in it. Same result as forward() over the whole sequence; rows of tokens that were not kept are arbitrary.
  virtual at::Tensor forward_cached(const at::Tensor& hidden, const CachedStep& step, LayerCache& cache,
                                    DecodePath path) const = 0;

  /// Derives what makes decoding cheaper. Weights must not change afterwards; a clone is not prepared.
  virtual void prepare_decode() {}

  /// What forward_cached() stores per token.
  virtual std::vector<StreamShape> cache_streams() const = 0;

  /// Calls `visit(name, tensor)` for every parameter, in a fixed order; names are relative to the layer, for example
  /// "q_proj.weight". The tensor may be replaced by one of the same shape (conversion of dtype or device).
  virtual void visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit) = 0;

  /// A deep copy of the layer and its parameters.
  virtual std::unique_ptr<Attention> clone() const = 0;
};

}  // namespace mla
