// How the work of one decode step is cut into pieces for threads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/decode_attention.h"

namespace mla {

/// Tokens of a tile, at most: its logits and rows, and the rows of the next tile, stay in the second-level cache
/// between their uses.
constexpr std::int64_t kDecodeTile = 64;

/// What one thread works on at a time.
struct DecodeUnit {
  std::int64_t batch, group, begin, end;  ///< tokens begin … end - 1
};

/// Groups of heads that no memory crosses: one where a memory serves all heads, otherwise one for each memory.
std::int64_t independent_groups(const DecodeProblem& problem);

/// The units of `batch` sequences; `before` becomes how many come before those of each sequence and group, and their
/// number at its end.
std::vector<DecodeUnit> plan_units(const DecodeProblem& problem, std::int64_t batch, std::int64_t groups,
                                   std::vector<std::int64_t>& before);

}  // namespace mla
