// Which rows of tokens a model must see to score continuations: planned before any of it is computed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/evaluate/continuation.h"

namespace mla {

/// One continuation that a row scores.
struct ScoredContinuation {
  std::size_t group = 0, choice = 0;
  std::span<const std::int32_t> tokens;  ///< context and continuation, cut on the left to what fits
  std::int64_t begin = 0;                ///< of the continuation in `tokens`
};

/// Tokens to feed, and the continuations whose tokens they predict.
struct ContinuationRow {
  std::span<const std::int32_t> inputs;
  std::size_t group = 0;
  std::int64_t shared = 0;  ///< inputs that all rows of the group begin with and that are fed once; 0: none
  std::vector<ScoredContinuation> scored;
  std::int64_t length() const { return std::ssize(inputs); }
};

struct ContinuationPlan {
  std::vector<ContinuationRow>
      rows;  ///< views into the groups; sorted by shared and length, groups that share together
  std::int64_t truncated = 0;
};

/// Plans rows of at most `positions` tokens. A row's last token is not fed, as nothing is predicted after it, unless
/// `whole_rows` says that the length of a row changes the function; a continuation whose inputs begin another row of
/// its group needs none of its own. Throws DataError for a continuation that leaves no position for a context.
ContinuationPlan plan_continuations(const std::vector<ContinuationGroup>& groups, std::int64_t positions,
                                    bool whole_rows, bool share);

}  // namespace mla
