#include "experiments/cache/cached_decoding.h"

#include <algorithm>
#include <cmath>

#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/registry.h"
#include "core/base/statistics.h"
#include "experiments/data/score_record.h"

namespace mla {
namespace {

constexpr std::int64_t kLongestBlock = 256;

/// The scored tokens of each window, or blocks of them.
SampleGroups window_groups(const CachedPerplexityResult& result) {
  const auto windows = static_cast<std::size_t>(result.windows);
  SampleGroups groups =
      text_groups(std::vector<std::int64_t>(windows, result.scored_tokens / result.windows), kLongestBlock);
  if (groups.unit == "document") groups.unit = "window";
  return groups;
}

}  // namespace

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
  CachedDecoding measured;
  measured.groups = window_groups(result);
  CachedDecodingRecord& record = measured.record;
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
  record.standard_error = grouped_mean(result.nll, measured.groups.sizes).standard_error;
  record.perplexity = result.perplexity;
  record.n = result.scored_tokens;
  measured.nll = result.nll;
  measured.kl = result.kl;
  return measured;
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
  const auto add_samples = [&](ScoreRecord& one, const std::vector<double>& samples) {
    one.per_sample = samples;
    one.group_sizes = measured.groups.sizes;
    one.group_unit = measured.groups.unit;
  };
  add_samples(scores[0], measured.nll);
  scores[0].standard_error = decoding.standard_error;
  scores[1].standard_error = decoding.perplexity * decoding.standard_error;
  if (!measured.kl.empty()) {
    const Estimate kl = grouped_mean(measured.kl, measured.groups.sizes);
    scores.push_back(score("kl_mean", kl.value, "nats per token"));
    scores.back().standard_error = kl.standard_error;
    add_samples(scores.back(), measured.kl);
  }
  return scores;
}

}  // namespace mla
