#include "core/evaluate/recall.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {

RecallTask make_recall_task(const RecallOptions& options, const Tokenizer& tokenizer, int threads) {
  RecallTask task{make_recall_items(options, tokenizer), {}};
  std::vector<std::string> contexts;
  std::vector<std::vector<std::string>> choices;
  for (const RecallItem& item : task.items) {
    contexts.push_back(item.question.context);
    choices.push_back(item.question.choices);
  }
  task.tokens = encode_continuations(tokenizer, contexts, choices, threads);
  return task;
}

RecallResult recall(const Decoder& decoder, const RecallTask& task, std::int64_t batch_tokens,
                    const std::function<void(std::int64_t)>& progress) {
  LikelihoodOptions options;
  options.batch_tokens = batch_tokens;
  options.greedy = true;
  options.positions = decoder.spec().max_positions;
  for (const ContinuationGroup& group : task.tokens) {
    for (const Continuation& continuation : group)
      options.positions = std::max(options.positions, std::ssize(continuation.tokens));
  }
  const LikelihoodResult likelihoods = log_likelihoods(decoder, task.tokens, options, progress);
  expects(likelihoods.truncated == 0, "nothing that is asked for was cut off");
  RecallResult result;
  for (std::size_t i = 0; i < task.items.size(); ++i) {
    const auto right = static_cast<std::size_t>(task.items[i].question.answer);
    const std::vector<double>& sums = likelihoods.sum[i];
    // Written so that an answer whose likelihood is not a number counts as wrong.
    const bool likeliest =
        std::count_if(sums.begin(), sums.end(), [&](double sum) { return sums[right] >= sum; }) == std::ssize(sums);
    result.exact.push_back(likelihoods.greedy[i][right]);
    result.chosen.push_back(likeliest ? 1 : 0);
    result.nll.push_back(-sums[right]);
  }
  return result;
}

}  // namespace mla
