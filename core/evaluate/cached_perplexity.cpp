#include "core/evaluate/cached_perplexity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/evaluate/sound_cache.h"
#include "core/evaluate/token_nll.h"
#include "core/ops/softmax_divergence.h"

namespace mla {
namespace {

using Windows = std::vector<std::span<const std::int32_t>>;

Windows whole_windows(const std::vector<std::vector<std::int32_t>>& sequences, const CachedPerplexityOptions& options) {
  const auto context = static_cast<std::size_t>(options.context);
  Windows windows;
  for (const auto& sequence : sequences) {
    for (std::size_t begin = 0; begin + context <= sequence.size(); begin += context) {
      if (options.windows > 0 && std::ssize(windows) == options.windows) return windows;
      windows.emplace_back(sequence.data() + begin, context);
    }
  }
  return windows;
}

at::Tensor ids_of(std::span<const std::span<const std::int32_t>> windows) {
  const std::int64_t length = std::ssize(windows.front());
  const at::Tensor ids = at::empty({std::ssize(windows), length}, at::kLong);
  std::int64_t* to = ids.mutable_data_ptr<std::int64_t>();
  for (const auto& window : windows) to = std::copy(window.begin(), window.end(), to);
  return ids;
}

/// What calls of given sizes predict through a cache: [batch, sum of calls]; `kl` is empty, or of the calls after the
/// first.
struct Decoded {
  at::Tensor nll, kl;
};

/// Feeds the same calls to `exact` too, if given, and compares what both predict after the first call, the prompt.
Decoded decode(const Decoder& decoder, const at::Tensor& ids, DecoderCache& cache, DecoderCache* exact,
               std::span<const std::int64_t> calls, DecodePath path) {
  const at::NoGradGuard no_grad;
  const at::Tensor on_device = ids.to(at::device(decoder.device()), /*non_blocking=*/true);
  std::vector<at::Tensor> nll, kl;
  std::int64_t begin = 0;
  for (const std::int64_t count : calls) {
    expects(begin + count < ids.size(1), "every token fed has a successor to predict");
    const at::Tensor fed = on_device.narrow(1, begin, count), targets = on_device.narrow(1, begin + 1, count);
    const at::Tensor hidden = decoder.hidden_states_cached(fed, cache, path);
    nll.push_back(target_nll(decoder, hidden, targets));
    if (exact) {
      const at::Tensor reference = decoder.hidden_states_cached(fed, *exact, path);
      if (begin > 0) {
        kl.push_back(softmax_divergence(decoder.logits(reference.flatten(0, 1)), decoder.logits(hidden.flatten(0, 1)),
                                        targets.flatten())
                         .kl.reshape(targets.sizes()));
      }
    }
    begin += count;
  }
  const auto whole = [](const std::vector<at::Tensor>& parts) {
    return parts.empty() ? at::Tensor() : at::cat(parts, 1).to(at::kCPU, at::kDouble).contiguous();
  };
  expect_sound(decoder, cache);
  return {whole(nll), whole(kl)};
}

void append(const at::Tensor& values, std::vector<double>& to) {
  to.insert(to.end(), values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
}

void summarize(CachedPerplexityResult& result) {
  const double count = static_cast<double>(result.nll.size());
  double sum = 0, squares = 0;
  for (const double value : result.nll) sum += value;
  result.mean_nll = sum / count;
  for (const double value : result.nll) squares += (value - result.mean_nll) * (value - result.mean_nll);
  if (result.nll.size() > 1) result.standard_error = std::sqrt(squares / (count - 1) / count);
  result.perplexity = std::exp(result.mean_nll);
  result.scored_tokens = static_cast<std::int64_t>(result.nll.size());
  const double windows = static_cast<double>(result.windows);
  result.bytes /= windows;
  result.predicted_bytes /= windows;
  result.effective_bits = 8 * result.bytes / static_cast<double>(result.cached_tokens * result.cached_elements);
}

}  // namespace

void CachedPerplexityOptions::validate(const std::string& where) const {
  check_at_least_one(where + ".prompt", prompt);
  check_at_least_one(where + ".batch", batch);
  if (windows < 0) throw ConfigError(cat(where, ".windows = ", windows, ": must not be negative"));
  if (context < prompt + 2) {
    throw ConfigError(cat(where, ".prompt = ", prompt, ": leaves nothing to decode of a context of ", context,
                          " tokens; at most ", context - 2));
  }
}

at::Tensor cached_nll(const Decoder& decoder, const at::Tensor& ids, DecoderCache& cache,
                      std::span<const std::int64_t> calls, DecodePath path) {
  return decode(decoder, ids, cache, nullptr, calls, path).nll;
}

CachedPerplexityResult cached_perplexity(const Decoder& decoder,
                                         const std::vector<std::vector<std::int32_t>>& sequences,
                                         const CachedPerplexityOptions& options, const CacheFormat& format,
                                         const std::function<void(std::int64_t)>& progress) {
  options.validate("cache");
  const Windows windows = whole_windows(sequences, options);
  if (windows.empty()) {
    throw DataError(cat("perplexity through the cache: no text of at least context = ", options.context, " tokens"));
  }
  // The last token is only predicted.
  std::vector<std::int64_t> calls(static_cast<std::size_t>(options.context - options.prompt), 1);
  calls.front() = options.prompt;
  CachedPerplexityResult result;
  result.windows = std::ssize(windows);
  result.cached_tokens = options.context - 1;
  result.cached_elements += cached_elements(decoder.spec());
  const std::int64_t scored = options.context - 1 - options.prompt;
  for (std::size_t begin = 0; begin < windows.size(); begin += static_cast<std::size_t>(options.batch)) {
    const std::size_t count = std::min(windows.size() - begin, static_cast<std::size_t>(options.batch));
    const at::Tensor ids = ids_of(std::span(windows).subspan(begin, count));
    DecoderCache cache = decoder.make_cache(ids.size(0), format);
    std::optional<DecoderCache> exact;
    if (options.divergence) exact = decoder.make_cache(ids.size(0));
    const Decoded decoded = decode(decoder, ids, cache, exact ? &*exact : nullptr, calls, options.path);
    const at::Tensor nll = decoded.nll.narrow(1, options.prompt, scored).contiguous();
    append(nll, result.nll);
    if (exact) append(decoded.kl, result.kl);
    expects(cache.bytes() == cache.predicted_bytes(),
            "the cache's buffers hold another number of bytes than predicted");
    result.bytes += static_cast<double>(cache.bytes());
    result.predicted_bytes += static_cast<double>(cache.predicted_bytes());
    if (progress) progress(nll.numel());
  }
  summarize(result);
  return result;
}

}  // namespace mla
