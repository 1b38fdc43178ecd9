// Rows of what a cache holds: where they lie, and how keys are rotated when they are read.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/decode_attention.h"
#include "core/ops/row_products.h"

namespace mla {

/// The span of a stream that holds token `position`, and the token's index in it.
struct DecodePlace {
  const DecodeSpan* span;
  std::int64_t index;
};
inline DecodePlace decode_place_of(const std::vector<DecodeSpan>& spans, std::int64_t position) {
  std::size_t i = 0;
  while (position >= spans[i].tokens) position -= spans[i++].tokens;
  return {&spans[i], position};
}

/// The rows of a tile whose first token is at `position`, rotated.
template <class T>
MLA_INLINE Rows<T> turned_rows(const Rows<T>& rows, const DecodeMemory& memory, std::int64_t position,
                               std::int64_t count, std::vector<T>& room) {
  const DecodeRotation& by = memory.rotation;
  const std::int64_t half = memory.width / 2;
  room.resize(static_cast<std::size_t>(count * memory.width));
  for (std::int64_t t = 0; t < count; ++t) {
    const T *cosine = static_cast<const T*>(by.cosine) + (position + t) * by.stride,
            *sine = static_cast<const T*>(by.sine) + (position + t) * by.stride, *from = rows.row(t);
    T* to = room.data() + t * memory.width;
    for (std::int64_t k = 0; k < half; ++k) {
      const T c = cosine[by.pairs[k]], s = sine[by.pairs[k]];
      to[k] = from[k] * c - from[half + k] * s;
      to[half + k] = from[half + k] * c + from[k] * s;
    }
  }
  return {room.data(), memory.width};
}

}  // namespace mla
