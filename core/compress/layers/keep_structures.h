// Layers with some of their KV heads, each with the query heads that read it, and some of their feed-forward channels.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/decoder.h"

namespace mla {

/// What of one layer is kept, ascending, at least one of each.
struct KeptStructures {
  std::vector<std::int64_t> kv_heads;  ///< of a grouped-query layer; empty: attention stays as it is
  std::vector<std::int64_t> channels;  ///< empty: the feed-forward part stays as it is
};

/// The description of a layer with so many KV heads, where its attention is grouped-query, and channels.
LayerSpec with_structures(const LayerSpec& layer, std::int64_t kv_heads, std::int64_t channels);

/// The model with these parts of its layers, one entry for each, whose matrices are dense: it computes what `decoder`
/// would with the output columns of the others zero. What is kept whole is shared with it.
Decoder keep_structures(const Decoder& decoder, const std::vector<KeptStructures>& kept);

}  // namespace mla
