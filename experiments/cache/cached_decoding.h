// Decoding texts through a cache that may be quantized, as experiments measure it.
#pragma once

#include <string>
#include <vector>

#include "core/base/statistics.h"
#include "core/evaluate/cached_perplexity.h"
#include "core/store/record.h"
#include "experiments/cache/cache_format.h"

namespace mla {

/// How the cache is stored, and what is decoded through it: one flat object in configs.
struct CachedDecodingConfig {
  CacheConfig storage;
  CachedPerplexityOptions decoding;

  static StrategyFields strategies() { return CacheConfig::strategies(); }
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    CacheConfig::fields(self.storage, visit);
    CachedPerplexityOptions::fields(self.decoding, visit);
  }

  void validate(const std::string& path) const {
    storage.validate(path);
    decoding.validate(path);
  }
};

/// What was measured of one task: its record, each token's NLL, and its KL where the config asks for it. Tokens of one
/// window depend on each other: standard errors take windows as independent, or blocks of them where they are few.
struct CachedDecoding {
  CachedDecodingRecord record;
  std::vector<double> nll, kl;
  SampleGroups groups;
};

/// Decodes the rows of one task, telling progress on the terminal and stopping on a signal.
CachedDecoding measure_cached_decoding(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                                       const CachedDecodingConfig& config, const CacheFormat& format,
                                       const std::string& stage, const std::string& task);

/// Its likelihood, perplexity, bits and KL (kl_mean) as scores of the task "<task>, cached", for tables.
std::vector<ScoreRecord> scores_of(const CachedDecoding& decoding);

/// Bits of a code, or of an element where the cache is stored as it is.
std::int64_t nominal_bits(const CacheConfig& config, const Decoder& decoder);

}  // namespace mla
