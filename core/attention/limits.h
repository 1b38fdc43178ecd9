// The largest numbers that a model may state. Far beyond every published model, and small enough that no product of
// them (parameters, bytes of a cache) leaves 64 bits.
#pragma once

#include <cstdint>

namespace mla {

inline constexpr std::int64_t kMostVocabulary = 2147483647, kMostPositions = 2147483647, kMostLayers = 10000,
                              kMostHidden = 1 << 18, kMostIntermediate = 1 << 22, kMostHeads = 1 << 16,
                              kMostHeadDim = 1 << 14, kMostHeadRows = 1 << 20;

}  // namespace mla
