// Continuing token sequences.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/evaluate/sampling.h"
#include "core/model/decoder.h"

namespace mla {

struct GenerateOptions {
  std::int64_t count = 64;
  double temperature = 0;
  std::int64_t top_k = 0;
  double top_p = 1;
  double repetition_penalty = 1;
  std::uint64_t seed = 42;
  std::vector<std::int64_t> stop;
  std::int64_t prefill_chunk = 0;
  std::int64_t first_row = 0;
  bool cache_last = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("count", self.count, "new tokens at most");
    visit("temperature", self.temperature, "logits are divided by it before sampling; 0: always the likeliest token");
    visit("top_k", self.top_k, "sample among the k likeliest tokens; 0: all");
    visit("top_p", self.top_p, "sample among the fewest likeliest tokens that hold this probability together");
    visit("repetition_penalty", self.repetition_penalty,
          "positive logits of tokens that occurred are divided by it, negative ones multiplied (arXiv 1909.05858); 1: "
          "none");
    visit("seed", self.seed, "of the sampling");
    visit("stop", self.stop, "tokens that end a sequence; []: none");
    visit("prefill_chunk", self.prefill_chunk, "tokens of a prompt that are fed at a time; 0: all at once");
    visit("first_row", self.first_row, "number of the first sequence; each draws from the random stream of its number");
    visit("cache_last", self.cache_last, "feed each sequence's last token too, so that its cache holds all of it");
  }

  /// Throws ConfigError for a count below 1, a negative temperature, top_k or prefill_chunk, top_p outside (0, 1], or a
  /// penalty that is not positive.
  void validate(const std::string& path) const;
  SamplingOptions sampling() const { return {temperature, top_k, top_p, repetition_penalty}; }
};

enum class Finish {
  kLength,       ///< `count` tokens are there
  kStop,         ///< a stop token came; it is the sequence's last
  kCaller,       ///< the sink said so
  kInterrupted,  ///< a signal arrived
};
std::vector<std::pair<std::string, Finish>> enum_names(Finish);

struct GeneratedSequence {
  std::vector<std::int64_t> tokens;  ///< new ones
  Finish finish = Finish::kLength;
};

struct GenerateReport {
  std::vector<GeneratedSequence> sequences;
  double first_seconds = 0;                               ///< until every sequence had its first token
  double seconds = 0;                                     ///< in all
  std::int64_t steps = 0;                                 ///< after the first token
  std::int64_t cached_tokens = 0, cache_bytes = 0;        ///< at the end, of all sequences; counted in the buffers
  std::int64_t predicted_bytes = 0, allocated_bytes = 0;  ///< by formula; with growth reserve
  std::int64_t new_tokens() const;
  /// Of the steps after the first token, all sequences together.
  double tokens_per_second() const;
};

/// Told of each new token of each sequence, in order; returns whether the sequence goes on.
using TokenSink = std::function<bool(std::int64_t row, std::int64_t token)>;

/// Continues prompts of any lengths (each at least one token) as one batch. A sequence's tokens do not depend on the
/// others, but for rounding. Keys and values are cached as `format` says, except for models whose frequencies depend on
/// the length (dynamic scaling) once a sequence outgrows their context: those recompute everything at each step, as
/// cached keys would carry other frequencies. A signal ends all sequences between two tokens.
GenerateReport generate(const Decoder& decoder, const std::vector<std::vector<std::int64_t>>& prompts,
                        const GenerateOptions& options, DecodePath path = DecodePath::kAuto,
                        const CacheFormat& format = {}, const TokenSink& sink = {});

/// New tokens [batch, <= count], int64, after prompt [batch, length >= 1]. Ends early when every row has produced a
/// token of `stop`; a row that did so before the others goes on with that token.
at::Tensor generate(const Decoder& decoder, const at::Tensor& prompt, const GenerateOptions& options,
                    DecodePath path = DecodePath::kAuto);

/// The `count` likeliest tokens one after the other: generate() at temperature 0 without a stop. [batch, count].
at::Tensor greedy_continue(const Decoder& decoder, const at::Tensor& prompt, std::int64_t count,
                           DecodePath path = DecodePath::kAuto);

}  // namespace mla
