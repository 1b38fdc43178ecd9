// How far a model's predictions are from those of the model it was made from.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/statistics.h"
#include "core/evaluate/perplexity.h"
#include "core/evaluate/stored_distributions.h"
#include "core/model/decoder.h"

namespace mla {

/// Token by token, in the order of the sequences. All lists have the same length.
struct TokenDivergence {
  std::vector<double> kl;               ///< KL(source || model) over the vocabulary, nats
  std::vector<double> source_nll;       ///< -log p(token) by the source, nats
  std::vector<double> nll;              ///< the same by the model
  std::vector<double> agrees;           ///< 1 where both find the same token likeliest, otherwise 0
  std::vector<std::int64_t> positions;  ///< how many tokens stand before each in its window
  SampleGroups groups;                  ///< what is taken as independent; see text_groups()
};

using TokenProgress = std::function<void(std::int64_t tokens)>;

/// Runs both models side by side over the windows of `options` (core/evaluate/perplexity.h defines them) and compares
/// their predictions of every scored token. Logits of a few rows at a time exist, of each model. `progress`, if given,
/// is told of the tokens compared. Throws DataError for models of different vocabularies, and when there is no token to
/// score.
TokenDivergence divergence(const Decoder& source, const Decoder& model,
                           const std::vector<std::vector<std::int32_t>>& sequences, const PerplexityOptions& options,
                           const TokenProgress& progress = {});

/// The same against what was stored of the source for the same sequences and windows. KL is then that of the
/// distributions over the kept tokens and "any other": at most the full one, and short of it by the stored tail's mass
/// times the divergence within the tail, for each token; core/evaluate/stored_distributions.h states what rounding
/// adds. Throws DataError when it was stored for other windows or another vocabulary.
TokenDivergence divergence(const StoredDistributions& source, const Decoder& model,
                           const std::vector<std::vector<std::int32_t>>& sequences, const PerplexityOptions& options,
                           const TokenProgress& progress = {});

/// What `source` predicts for every scored token, its `kept` likeliest tokens of each; 0: all.
StoredDistributions store_distributions(const Decoder& source, const std::vector<std::vector<std::int32_t>>& sequences,
                                        const PerplexityOptions& options, std::int64_t kept,
                                        const TokenProgress& progress = {});

}  // namespace mla
