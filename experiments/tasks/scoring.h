// Token-level results of a model on given ids, for holding it against another implementation.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/model/decoder.h"
#include "experiments/data/token_ids.h"

namespace mla {

/// What to score, and what besides.
struct ScoreRequest {
  TokenIds ids;
  std::int64_t last = 0;           ///< logits of that many last positions
  std::int64_t greedy_tokens = 0;  ///< new tokens of a greedy continuation

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("ids", self.ids, "rows of token ids, of any lengths");
    visit("last", self.last, "positions at the end of each row whose logits are wanted");
    visit("greedy_tokens", self.greedy_tokens, "new tokens of each row's greedy continuation, which ignores EOS");
  }
};

/// One entry per row of the request, in its order.
struct ScoreResult {
  std::vector<std::vector<double>> nll;                       ///< -log p(id[t + 1] | id[0..t]), nats
  std::vector<std::vector<std::vector<double>>> last_logits;  ///< [position][vocabulary], fewer for shorter rows
  std::vector<std::vector<std::int64_t>> greedy;              ///< the new tokens only
};

/// Reads {"ids": [[…]], "last": 4, "greedy_tokens": 16}; the last two may be left out. Throws DataError naming file,
/// row and position.
ScoreRequest read_score_request(const std::string& path, std::int64_t vocabulary);

/// Runs the rows; those of equal length together. `progress` is told of the rows finished.
ScoreResult score_rows(const Decoder& decoder, const ScoreRequest& request,
                       const std::function<void(std::int64_t)>& progress);

}  // namespace mla
