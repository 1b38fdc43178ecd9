// Log-likelihoods of continuations given their contexts: what multiple choice is scored with.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

namespace mla {

/// A context and one continuation as tokens.
struct Continuation {
  std::vector<std::int32_t> tokens;  ///< of both
  std::int64_t context = 0;          ///< how many of them are the context's; at least 1
};

/// A context and its possible continuations. Scoring is fastest where these begin alike.
using ContinuationGroup = std::vector<Continuation>;

/// Joins the tokens of `context` and of `whole` = context + continuation, both encoded with the tokenizer's special
/// tokens, as lighteval does: the continuation is what `whole` has beyond the length of `context`, or its last token
/// where a merge across the border leaves nothing. Throws DataError where no token is left to condition on, as for an
/// empty context without BOS.
Continuation join_continuation(std::vector<std::int32_t> context, const std::vector<std::int32_t>& whole);

/// The groups of `contexts` and their `choices`, with white space at a context's end counted to its continuations. An
/// empty context stands for the BOS token, or EOS where there is none. `chat`: contexts are questions to be asked so,
/// and choices the beginnings of its answers; null: text goes on. Encodes on up to `threads` threads.
std::vector<ContinuationGroup> encode_continuations(const Tokenizer& tokenizer,
                                                    const std::vector<std::string>& contexts,
                                                    const std::vector<std::vector<std::string>>& choices,
                                                    int threads = 1, const Chat* chat = nullptr);

class LikelihoodJournal;

struct LikelihoodOptions {
  std::int64_t batch_tokens = 8192;  ///< of one forward pass, padding included (at least one row)
  bool share_contexts = true;        ///< compute what a group's continuations begin with once, where that pays
  std::function<void(std::int64_t)> computed = {};  ///< told of the tokens of each batch when it is done; may be empty
  std::function<void(std::int64_t)> taken_over = {};  ///< the same of each batch that `journal` knew; may be empty
  LikelihoodJournal* journal = nullptr;  ///< keeps what is done, and knows what an earlier run has done; null: none
  bool greedy = false;                   ///< tell also which continuations greedy decoding would produce
  std::int64_t positions = 0;            ///< tokens of the longest row; 0: the model's positions
};

struct LikelihoodResult {
  std::vector<std::vector<double>> sum;   ///< log p(continuation | context) in nats, [group][continuation]
  std::int64_t truncated = 0;             ///< continuations whose context was cut on the left to fit the model
  std::vector<std::vector<char>> greedy;  ///< 1: each token is the likeliest after those before it; only if asked for
};

/// Tokens that log_likelihoods() feeds the model for these groups, padding not counted, without its first `done`
/// batches.
std::int64_t tokens_to_compute(const Decoder& decoder, const std::vector<ContinuationGroup>& groups,
                               const LikelihoodOptions& options, std::int64_t done = 0);

/// Sums of log-likelihoods of the continuations' tokens. A row longer than the model's positions loses tokens of its
/// context on the left. Rows are sorted by length and go together under `batch_tokens`. What several rows of a group
/// begin with is fed once into a cache that they then share, if that at least halves the tokens to compute; rows that
/// differ in nothing but their last token are one row in any case. `progress`, if given, is told of continuations done.
/// Throws DataError for a continuation longer than the model's positions.
LikelihoodResult log_likelihoods(const Decoder& decoder, const std::vector<ContinuationGroup>& groups,
                                 const LikelihoodOptions& options,
                                 const std::function<void(std::int64_t)>& progress = {});

}  // namespace mla
