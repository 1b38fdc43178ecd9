// Rows of what a cache holds: where they lie.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/decode_attention.h"

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

}  // namespace mla
