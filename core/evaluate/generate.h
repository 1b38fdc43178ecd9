// Continuing token sequences.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/model/decoder.h"

namespace mla {

struct GenerateOptions {
  std::int64_t count = 64;
  double temperature = 0;
  std::int64_t top_k = 0;
  double top_p = 1;
  std::uint64_t seed = 42;
  std::optional<std::int64_t> stop;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("count", self.count, "new tokens at most");
    visit("temperature", self.temperature, "logits are divided by it before sampling; 0: always the likeliest token");
    visit("top_k", self.top_k, "sample among the k likeliest tokens; 0: all");
    visit("top_p", self.top_p, "sample among the fewest likeliest tokens that hold this probability together");
    visit("seed", self.seed, "of the sampling");
    visit("stop", self.stop, "token that ends a sequence, and fills it up; null: none");
  }

  /// Throws ConfigError for a count below 1, a negative temperature or top_k, or top_p outside (0, 1].
  void validate(const std::string& path) const;
};

/// New tokens [batch, <= count], int64, after prompt [batch, length >= 1]. Ends early when every row has produced
/// `stop`; a row that did so before the others goes on with `stop`. Keys and values are cached, except for models whose
/// frequencies depend on the length (dynamic scaling) once the sequence outgrows their context: those recompute
/// everything at each step, as cached keys would carry other frequencies.
at::Tensor generate(const Decoder& decoder, const at::Tensor& prompt, const GenerateOptions& options,
                    DecodePath path = DecodePath::kAuto);

/// The `count` likeliest tokens one after the other: generate() at temperature 0 without a stop. [batch, count].
at::Tensor greedy_continue(const Decoder& decoder, const at::Tensor& prompt, std::int64_t count,
                           DecodePath path = DecodePath::kAuto);

}  // namespace mla
