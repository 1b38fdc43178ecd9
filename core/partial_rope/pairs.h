// What several partial-RoPE strategies share: checking the number of pairs, and one set for every head.
#pragma once

#include <string>
#include <vector>

#include "core/partial_rope/selector.h"

namespace mla {

/// Help for the field `pairs` of the strategies that take a count.
inline constexpr const char* kPairsHelp =
    "rotation pairs kept per head: one number, or a list with one per layer; 0 is NoPE";

/// Options of a strategy that takes a count and nothing else.
struct PairsOptions {
  PerLayer pairs = 4;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("pairs", self.pairs, kPairsHelp);
  }
};

/// Throws ConfigError when `pairs` is a list of the wrong length or holds a value outside 0..head_dim / 2.
void check_pairs(const PerLayer& pairs, const HeadGeometry& geometry, const std::string& path);

/// The same pairs for each KV head.
KeptPairs same_for_all_heads(const std::vector<std::int64_t>& pairs, const HeadGeometry& geometry);

/// begin, begin + 1, …: `count` pairs.
std::vector<std::int64_t> consecutive_pairs(std::int64_t begin, std::int64_t count);

}  // namespace mla
