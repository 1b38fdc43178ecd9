// Token sequences cut into the windows that a model reads them in.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/decoder.h"

namespace mla {

/// Some successive tokens of a sequence, at positions 0, 1, …, and which of them count.
struct Window {
  std::span<const std::int32_t> tokens;
  std::int64_t first_scored = 1;  ///< the first token that counts, as a position in the window
  std::int64_t offset = 0;        ///< of that token among all scored ones
  std::int64_t length() const { return std::ssize(tokens); }
  std::int64_t scored() const { return length() - first_scored; }
};

struct WindowPlan {
  std::vector<Window> windows;                    ///< views of the sequences, from long to short
  std::int64_t scored = 0;                        ///< tokens that count
  std::int64_t scorable = 0;                      ///< tokens that could, were there no borders between windows
  std::vector<std::int64_t> scored_per_sequence;  ///< of `scored`
};

/// The windows of strided perplexity; core/evaluate/perplexity.h defines them.
/// Throws DataError naming `what` when there is no token to score.
/// `last_is_full`: a sequence's last window begins early enough to hold `context` tokens, where there are so many.
WindowPlan plan_windows(const std::vector<std::vector<std::int32_t>>& sequences, std::int64_t context,
                        std::int64_t stride, const char* what, bool last_is_full = false);

/// How many tokens stand before each scored token in its window, in the order of the scored tokens.
std::vector<std::int64_t> scored_positions(const WindowPlan& plan);

/// How many of the windows, sorted from long to short, go into one forward pass of about `batch_tokens` tokens. A model
/// whose frequencies depend on the length takes windows of one length only.
std::size_t windows_together(const Decoder& decoder, std::span<const Window> windows, std::int64_t batch_tokens);

/// Ids [windows, longest], int64, padded on the right, which no earlier token sees.
at::Tensor window_ids(std::span<const Window> windows);

/// The scored tokens of some windows: the rows of [windows * length] that predict them, their ids, and their places
/// among all scored tokens.
struct ScoredTokens {
  std::vector<std::int64_t> rows, tokens, places;
};
ScoredTokens scored_tokens(std::span<const Window> windows, std::int64_t length);

}  // namespace mla
