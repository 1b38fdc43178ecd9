// Whether a model finds in its context what it is asked for.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/evaluate/continuation.h"
#include "core/evaluate/recall_items.h"

namespace mla {

/// Items as tokens.
struct RecallTask {
  std::vector<RecallItem> items;
  std::vector<ContinuationGroup> tokens;  ///< one group per item
};

RecallTask make_recall_task(const RecallOptions& options, const Tokenizer& tokenizer, int threads = 1);

/// One entry per item.
struct RecallResult {
  std::vector<double> exact;   ///< 1 where greedy decoding gives the right answer token by token, otherwise 0
  std::vector<double> chosen;  ///< 1 where the right answer is the likeliest of the choices, by the sum of its tokens
  std::vector<double> nll;     ///< of the right answer, nats, all its tokens
};

/// Asks the model. Contexts may be longer than what it was trained on: rotations go on beyond. `progress`, if given, is
/// told of choices done.
RecallResult recall(const Decoder& decoder, const RecallTask& task, std::int64_t batch_tokens,
                    const std::function<void(std::int64_t)>& progress = {});

}  // namespace mla
