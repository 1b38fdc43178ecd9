// Named places of a forward pass.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace mla {

/// Places of a forward pass at which tensors can be watched. Heads lie as [batch, heads, length, width], all else as
/// [batch, length, width].
enum class Tap {
  kLayerInput,      ///< the residual stream before the layer
  kAttentionInput,  ///< the same, normalised: what queries, keys and values are made of
  kQuery,           ///< as it enters the rotation: after biases and QK-norm
  kKey,             ///< likewise
  kQueryRotated,    ///< as it is multiplied with keys, dims without rotation included
  kKeyRotated,      ///< likewise
  kValue,
  kLatent,             ///< what keys and values are rebuilt from, or factored queries, where there is such a thing
  kAttentionWeights,   ///< after the softmax, [batch, heads, queries, keys]
  kAttentionContext,   ///< what attention sums up, before the output projection
  kAttentionOutput,    ///< after it
  kFeedForwardInput,   ///< the normalised residual stream after attention
  kFeedForwardInner,   ///< the gated activations that the down projection reads
  kFeedForwardOutput,  ///< what the feed-forward part adds to the residual stream
  kLayerOutput,        ///< the residual stream after the layer
  kFinalState,         ///< the last, normalised residual stream, which the output matrix reads; layer: their number
};

inline std::vector<std::pair<std::string, Tap>> enum_names(Tap) {
  return {{"layer_input", Tap::kLayerInput},
          {"attention_input", Tap::kAttentionInput},
          {"query", Tap::kQuery},
          {"key", Tap::kKey},
          {"query_rotated", Tap::kQueryRotated},
          {"key_rotated", Tap::kKeyRotated},
          {"value", Tap::kValue},
          {"latent", Tap::kLatent},
          {"attention_weights", Tap::kAttentionWeights},
          {"attention_context", Tap::kAttentionContext},
          {"attention_output", Tap::kAttentionOutput},
          {"feed_forward_input", Tap::kFeedForwardInput},
          {"feed_forward_inner", Tap::kFeedForwardInner},
          {"feed_forward_output", Tap::kFeedForwardOutput},
          {"layer_output", Tap::kLayerOutput},
          {"final_state", Tap::kFinalState}};
}

}  // namespace mla
