// What surrounds a layer in one forward pass: where its tokens stand, who watches, and what layers hand on.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/attention/rotary.h"
#include "core/attention/taps.h"

namespace mla {

/// How attention over a latent cache is computed.
enum class DecodePath {
  kAuto,      ///< whichever needs fewer operations
  kAbsorbed,  ///< queries are taken into the latent space; the latent serves as key and value
  kExpanded,  ///< keys and values are rebuilt from the latent
};

inline std::vector<std::pair<std::string, DecodePath>> enum_names(DecodePath) {
  return {{"auto", DecodePath::kAuto}, {"absorbed", DecodePath::kAbsorbed}, {"expanded", DecodePath::kExpanded}};
}

/// Watches a forward pass: called with what passes at the taps it asks for. Kinds of attention that do not make a
/// tensor (keys of a layer that reuses another's weights) do not show it.
struct Observer {
  std::vector<Tap> taps;
  std::function<void(Tap tap, std::int64_t layer, const at::Tensor& tensor)> see;
  bool wants(Tap tap) const { return std::find(taps.begin(), taps.end(), tap) != taps.end(); }
};

/// The name of the slot that holds the attention weights [batch, heads, queries, keys] which a layer computed.
inline constexpr const char* kAttentionWeights = "attention_weights";

/// Rotations of the tokens given, [length, …] or [batch * length, …] where sequences stand apart, and of positions 0 to
/// the end of the longest sequence, where a cache rotates keys when they are read.
struct RopeTables {
  RotaryTable rotary, history;
};

/// The surroundings of the layers of one forward pass. Layers change only `slots`.
struct ForwardContext {
  RotaryTable rotary;    ///< the layer's, of the tokens given: see RopeTables
  at::Tensor documents;  ///< int64 [batch, length]: the first position that each token may look at; undefined: 0
  RotaryTable history;   ///< the layer's, of all positions
  std::map<RopeUse, RopeTables> tables;  ///< of all ways in which the model's layers rotate; empty: one for all
  std::vector<std::int64_t> before;      ///< with a cache: tokens that each sequence held before this step
  DecodePath path = DecodePath::kAuto;
  const Observer* observer = nullptr;  ///< may be null
  std::int64_t layer = 0;              ///< the layer that runs
  std::vector<std::string> wanted;     ///< slots that this layer is to fill, since a later one reads them
  std::map<std::string, at::Tensor> slots;

  /// Makes `rotary` and `history` those of a layer that rotates so.
  void turn(RopeUse use) {
    const auto found = tables.find(use);
    if (found == tables.end()) return;
    rotary = found->second.rotary;
    history = found->second.history;
  }
  bool wants(const char* slot) const { return std::find(wanted.begin(), wanted.end(), slot) != wanted.end(); }
  bool watches(Tap tap) const { return observer && observer->wants(tap); }
  /// Whether the attention weights themselves are asked for, by a later layer or by who watches.
  bool needs_attention_weights() const { return wants(kAttentionWeights) || watches(Tap::kAttentionWeights); }
  void show(Tap tap, const at::Tensor& tensor) const {
    if (watches(tap)) observer->see(tap, layer, tensor);
  }
};

}  // namespace mla
