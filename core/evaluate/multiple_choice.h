// Accuracy on multiple choice: which continuation of a context a model finds likeliest.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/evaluate/continuation.h"
#include "core/text/multiple_choice_item.h"

namespace mla {

/// Items as tokens, and what their scores are divided by.
struct MultipleChoiceTask {
  std::vector<MultipleChoiceItem> items;
  std::vector<ContinuationGroup> tokens;  ///< one group per item; behind them the unconditional ones, if there are any
};

/// Adds to each item its choices after `context`, a text that says nothing of the question ("": after BOS alone), whose
/// log-likelihoods are what accuracy_pmi takes away.
void add_unconditional(MultipleChoiceTask& task, const std::string& context, const Tokenizer& tokenizer,
                       int threads = 1);

/// Cuts contexts on the right until context and continuation hold at most `most` tokens, the first token kept. Returns
/// of how many continuations. Throws DataError for a continuation that leaves no room for a context.
std::int64_t cut_contexts_right(std::vector<ContinuationGroup>& groups, std::int64_t most);

/// Encodes the items on up to `threads` threads. Throws DataError for an item with nothing to condition on.
/// `chat`: how contexts are asked, as lm-evaluation-harness does with --apply_chat_template: all that stands before a
/// choice is one turn of the user, solved examples included, and a choice is how the assistant's begins, without the
/// space that joins it to a text.
MultipleChoiceTask make_multiple_choice(std::vector<MultipleChoiceItem> items, const Tokenizer& tokenizer,
                                        int threads = 1, const Chat* chat = nullptr);

/// The share of items whose right choice scores highest.
struct Accuracy {
  double value = 0;
  double standard_error = 0;     ///< sqrt(p (1 - p) / (n - 1)); 0 for a single item
  std::vector<double> per_item;  ///< 1: right, 0: wrong
};

/// Characters and bytes of a choice, a leading space not counted: what its log-likelihood is divided by.
double characters_of(const std::string& choice);
double bytes_of(const std::string& choice);

struct MultipleChoiceResult {
  Accuracy accuracy;             ///< by the sum of log-likelihoods of the choice's tokens
  Accuracy accuracy_normalized;  ///< by the sum over unicode characters, a leading space not counted
  Accuracy accuracy_per_byte;    ///< by the sum over bytes of UTF-8, a leading space not counted
  Accuracy accuracy_per_token;   ///< by the sum over the choice's tokens
  Accuracy accuracy_pmi;  ///< by the sum less that of the same choice without its question; only where these are there
  std::vector<std::vector<double>> log_likelihood;  ///< [item][choice], nats
  std::vector<std::vector<double>> unconditional;   ///< the same without the question; empty: not asked for
  /// Share of items whose right choice greedy decoding would write after the context; only where it was asked for.
  Accuracy greedy;
  std::int64_t truncated = 0;  ///< choices whose context was cut on the left to fit the model
};

/// The accuracies that log-likelihoods [item][choice] of the items' choices make, wherever they come from.
MultipleChoiceResult score_choices(const std::vector<MultipleChoiceItem>& items,
                                   std::vector<std::vector<double>> log_likelihoods);

/// Scores every choice by its log-likelihood given the context (core/evaluate/continuation.h). Of equal scores the
/// first counts; an item with a score that is not a number is wrong. The normalisation is lighteval's
/// loglikelihood_acc_norm_nospace, which MHA2MLA reports. `progress`, if given, is told of choices done.
/// Throws DataError for a choice longer than the model's positions.
MultipleChoiceResult multiple_choice(const Decoder& decoder, const MultipleChoiceTask& task,
                                     const LikelihoodOptions& options,
                                     const std::function<void(std::int64_t)>& progress = {});

}  // namespace mla
