// Perplexity and bits per byte of token sequences.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/statistics.h"
#include "core/model/decoder.h"

namespace mla {

/// Tokens of a window where nobody says how many, and the model takes as many.
constexpr std::int64_t kLongestDefaultContext = 2048;

struct PerplexityOptions {
  std::int64_t context = 256;
  std::optional<std::int64_t> stride;
  std::int64_t batch_tokens = 8192;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("context", self.context, "tokens of a window, the last one predicted included");
    visit("stride", self.stride,
          "tokens from one window to the next, at most context; null: context. Smaller: more context per token, more "
          "work");
    visit("batch_tokens", self.batch_tokens, "tokens of one forward pass, padding included (at least one window)");
  }

  /// Throws ConfigError for a context below 2, other sizes below 1, and a stride above the context.
  void validate(const std::string& path) const;
};

/// How a text is cut into windows.
enum class WindowRule {
  kStrided,       ///< one after another, as perplexity() says
  kRolling,       ///< lm-evaluation-harness: every token is predicted once, after the one before its window
  kBosPerWindow,  ///< each window begins with BOS, and all its other tokens are predicted
};
inline std::vector<std::pair<std::string, WindowRule>> enum_names(WindowRule) {
  return {{"strided", WindowRule::kStrided},
          {"rolling", WindowRule::kRolling},
          {"bos_per_window", WindowRule::kBosPerWindow}};
}

struct PerplexityResult {
  double mean_nll = 0;                  ///< nats per scored token
  double standard_error = 0;            ///< of mean_nll, `groups` taken as independent; 0 for a single token
  double perplexity = 0;                ///< exp(mean_nll)
  std::optional<double> bits_per_byte;  ///< only where the bytes are known
  std::int64_t scored_tokens = 0;
  std::int64_t scorable_tokens = 0;               ///< of the sequences: all but their first ones
  std::vector<double> nll;                        ///< per scored token in the order of the sequences, nats
  std::vector<std::int64_t> scored_per_sequence;  ///< how many of them belong to each sequence
  std::vector<std::int64_t> positions;            ///< of `nll`: how many tokens stand before each in its window
  SampleGroups groups;  ///< sequences, or blocks of them: text_groups() of scored_per_sequence and the context
};

/// Window k of a sequence holds its tokens k * stride … k * stride + context - 1 (fewer at the end), at positions 0, 1,
/// …; the last window is the one that reaches the end. Each window scores those of its tokens that no earlier window
/// held, its own first token apart, which has no context. This is the usual strided perplexity: with stride = context
/// windows are disjoint and lose their first token; with stride < context every token but a sequence's first is scored
/// once, with at least context - stride tokens before it. One long text is one sequence. `bytes` is the length of the
/// sequences' whole text; bits per byte are the mean per token times the tokens that could be scored, over bytes.
/// `progress`, if given, is told of the tokens scored after each forward pass. Throws ConfigError for bad options,
/// DataError when there is no token to score.
PerplexityResult perplexity(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& sequences,
                            const PerplexityOptions& options, std::optional<std::int64_t> bytes = {},
                            const std::function<void(std::int64_t)>& progress = {});

/// The same by another rule. kRolling: windows read `context` tokens and predict as many; the first of them reads
/// `first` before the text, each later one the token before those that it predicts, the last one as much as it can
/// hold. So are word_perplexity, byte_perplexity and bits_per_byte of lm-evaluation-harness made. kBosPerWindow:
/// windows of `first` and context - 1 tokens of the text. A sequence that begins with `first` already has it once.
/// Throws ConfigError for a stride beside these rules.
PerplexityResult perplexity_by(WindowRule rule, std::int32_t first, const Decoder& decoder,
                               const std::vector<std::vector<std::int32_t>>& sequences,
                               const PerplexityOptions& options, std::optional<std::int64_t> bytes = {},
                               const std::function<void(std::int64_t)>& progress = {});

/// e to the nats that all scorable tokens take together, over `units` (words, or bytes) of their text: what a unit of
/// it is as surprising as.
double perplexity_per(const PerplexityResult& result, std::int64_t units);

}  // namespace mla
