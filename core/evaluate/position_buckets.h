// Token values by how much context stands before the token.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/statistics.h"

namespace mla {

/// The tokens with `first` to `last` tokens before them in their window.
struct PositionBucket {
  std::int64_t first = 0, last = 0;
  std::vector<double> values;        ///< in the order of the tokens
  std::vector<std::int64_t> groups;  ///< sizes of what is independent among them; see SampleGroups
  std::string name() const;          ///< "16-31", or "16" for a single position
};

/// The first positions of buckets from 1 to `context` - 1 where none are given: powers of two, and `trained` (the
/// positions that a model was trained on), so that no bucket reaches across its end.
std::vector<std::int64_t> usual_buckets(std::int64_t context, std::int64_t trained);

/// Sorts `values` (one per scored token, as `positions`) into buckets that begin at `starts`, ascending; positions
/// before the first start are left out, and so are buckets without tokens. `groups` are those of all values, or empty.
std::vector<PositionBucket> by_position(const std::vector<double>& values, const std::vector<std::int64_t>& positions,
                                        const std::vector<std::int64_t>& groups,
                                        const std::vector<std::int64_t>& starts);

/// Throws ConfigError naming `path` unless the starts ascend from 1 or more and stay below `context`.
void check_buckets(const std::string& path, const std::vector<std::int64_t>& starts, std::int64_t context);

}  // namespace mla
