// The interface of an attention layer, whatever it computes and caches.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "core/attention/forward_context.h"
#include "core/attention/spec.h"
#include "core/kv_cache/layer_cache.h"

namespace mla {

/// One attention layer. Dtypes: weights may be stored narrower than the hidden state; arithmetic is the hidden state's.
class Attention {
 public:
  virtual ~Attention() = default;

  /// What this layer is; its tensors have the shapes that it states.
  virtual std::shared_ptr<const AttentionSpec> spec() const = 0;

  /// Causal attention over a whole sequence without a cache, for training and scoring.
  /// hidden [batch, length, hidden]; `context.rotary` holds the same length. Returns [batch, length, hidden].
  virtual at::Tensor forward(const at::Tensor& hidden, ForwardContext& context) const = 0;

  /// Appends hidden's tokens to the cache (of each sequence as many as LayerCache::begin_step said) and attends to all
  /// tokens in it. Same result as forward() over the whole sequence; rows of tokens that were not kept are arbitrary.
  virtual at::Tensor forward_cached(const at::Tensor& hidden, ForwardContext& context, LayerCache& cache) const = 0;

  /// Derives what makes decoding cheaper. Weights must not change afterwards; a clone is not prepared.
  virtual void prepare_decode() {}

  /// Calls `visit` for every linear map and every other tensor, in the order of the spec.
  virtual void visit_weights(const WeightVisitor& visit) = 0;

  /// Calls `visit(name, tensor)` for every parameter that can be trained, in the order of the spec.
  void visit_parameters(const std::function<void(const std::string&, at::Tensor&)>& visit) {
    visit_weights(each_parameter(visit));
  }

  /// A deep copy of the layer and its parameters.
  virtual std::unique_ptr<Attention> clone() const = 0;
};

}  // namespace mla
