#include "experiments/cached_decoding.h"

#include <algorithm>
#include <cmath>

#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/registry.h"
#include "core/base/statistics.h"
#include "experiments/score_record.h"

namespace mla {

std::int64_t nominal_bits(const CacheConfig& config, const Decoder& decoder) {
  if (config.codec.is_null()) return 8 * static_cast<std::int64_t>(c10::elementSize(decoder.compute_dtype));
  return Registry<Codec>::instance().make(config.codec, "cache.codec")->bits();
}

CachedDecoding measure_cached_decoding(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                                       const CachedDecodingConfig& config, const CacheFormat& format,
                                       const std::string& stage, const std::string& task) {
  const CachedPerplexityOptions& options = config.decoding;
  std::int64_t windows = 0;
  for (const auto& row : rows) windows += static_cast<std::int64_t>(row.size()) / options.context;
  if (options.windows > 0) windows = std::min(windows, options.windows);
  Progress bar(cat("decode ", stage, " ", config.storage.label()), windows * (options.context - 1 - options.prompt),
               "tokens");
  const CachedPerplexityResult result = cached_perplexity(decoder, rows, options, format, [&](std::int64_t tokens) {
    check_interrupt();
    bar.advance(tokens);
  });
  CachedDecodingRecord record;
  record.stage = stage;
  record.task = task;
  record.codec = config.storage.label();
  record.nominal_bits = nominal_bits(config.storage, decoder);
  record.effective_bits = result.effective_bits;
  record.tokens = result.cached_tokens;
  record.elements = result.cached_elements;
  record.predicted_bytes = std::llround(result.predicted_bytes);
  record.counted_bytes = std::llround(result.bytes);
  record.nll = result.mean_nll;
  record.standard_error = result.standard_error;
  record.perplexity = result.perplexity;
  record.n = result.scored_tokens;
  return {record, result.kl};
}

std::vector<ScoreRecord> scores_of(const CachedDecoding& measured) {
  const CachedDecodingRecord& decoding = measured.record;
  const auto score = [&](const std::string& metric, double value, const std::string& unit) {
    return new_score(decoding.stage, decoding.task + ", cached", metric, value, decoding.n, unit, Better::kLower);
  };
  std::vector<ScoreRecord> scores = {
      score("nll", decoding.nll, "nats per token"), score("perplexity", decoding.perplexity, ""),
      score("nominal_bits", static_cast<double>(decoding.nominal_bits), "bits per element"),
      score("effective_bits", decoding.effective_bits, "bits per element")};
  scores[0].standard_error = decoding.standard_error;
  scores[1].standard_error = decoding.perplexity * decoding.standard_error;
  if (!measured.kl.empty()) {
    const Estimate kl = grouped_mean(measured.kl, {});
    scores.push_back(score("kl_mean", kl.value, "nats per token"));
    scores.back().standard_error = kl.standard_error;
  }
  return scores;
}

}  // namespace mla
