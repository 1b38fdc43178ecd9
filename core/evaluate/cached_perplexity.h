// Perplexity of what a model says while it decodes through a cache, token by token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/kv_cache/layer_cache.h"
#include "core/kv_cache/stream.h"
#include "core/model/decoder.h"

namespace mla {

/// -log p(ids[b][t + 1] | ids[b][0..t]) in nats, float64 [batch, sum of calls], for ids [batch, > sum of calls], int64.
/// The tokens are fed to `cache` in calls of the given sizes; each call attends to what the cache gives it.
at::Tensor cached_nll(const Decoder& decoder, const at::Tensor& ids, DecoderCache& cache,
                      std::span<const std::int64_t> calls, DecodePath path = DecodePath::kAuto);

struct CachedPerplexityOptions {
  std::int64_t context = 256;
  std::int64_t prompt = 128;
  std::int64_t windows = 0;
  std::int64_t batch = 16;
  bool divergence = false;
  DecodePath path = DecodePath::kAuto;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("context", self.context, "tokens of a window, the last one predicted included");
    visit("prompt", self.prompt,
          "tokens of a window that are fed in one call, with exact attention; the others follow one by one");
    visit("windows", self.windows, "at most that many windows; 0: all");
    visit("batch", self.batch, "windows that are decoded side by side");
    visit("divergence", self.divergence,
          "also KL from what the same model predicts through a cache kept as computed; twice the time");
    visit("path", self.path, "latent attention: auto | absorbed | expanded");
  }

  /// Throws ConfigError for a prompt that leaves nothing to decode, and sizes below 1.
  void validate(const std::string& path) const;
};

struct CachedPerplexityResult {
  double mean_nll = 0;        ///< nats per scored token
  double standard_error = 0;  ///< of mean_nll, tokens taken as independent
  double perplexity = 0;
  std::int64_t windows = 0, scored_tokens = 0;
  std::vector<double> nll;  ///< per scored token, windows in order
  std::vector<double> kl;   ///< KL(cache kept as computed || cache as stored), likewise; empty unless asked for

  /// Of one window's cache after its last call: the mean over windows.
  std::int64_t cached_tokens = 0;
  std::int64_t cached_elements = 0;  ///< per token, all layers
  double bytes = 0, predicted_bytes = 0;
  /// Stored bits per cached element: codes, scales, zeros, sparse entries and tokens kept as they are.
  double effective_bits = 0;
};

/// Cuts the sequences into disjoint windows of `context` tokens, and decodes each in a cache of its own whose streams
/// are stored as `format` says. Scored are the tokens predicted by calls after the prompt: those that saw stored keys
/// and values. What is left of a sequence after its last whole window is not used. Counted bytes are held to the
/// predicted ones. `progress`, if given, is told of scored tokens. Throws ConfigError for bad options, DataError when
/// there is no window.
CachedPerplexityResult cached_perplexity(const Decoder& decoder,
                                         const std::vector<std::vector<std::int32_t>>& sequences,
                                         const CachedPerplexityOptions& options, const CacheFormat& format,
                                         const std::function<void(std::int64_t)>& progress = {});

}  // namespace mla
