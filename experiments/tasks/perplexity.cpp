#include "core/evaluate/perplexity.h"

#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "experiments/data/score_record.h"
#include "experiments/tasks/perplexity_scores.h"
#include "experiments/tasks/text_task.h"

namespace mla {
namespace {

class PerplexityEvaluation final : public TextTask {
 public:
  explicit PerplexityEvaluation(Options) : TextTask(1) {}

  /// Metrics nll with every token's own value, perplexity, bits_per_byte where the bytes are known, skipped_lines where
  /// there are any, and nll_<first>-<last> by position.
  std::vector<ScoreRecord> scores(const TaskCall& call) const override {
    const TokenRows& tokens = call.surroundings.rows(call.config.data);
    Progress bar(cat("evaluate ", call.stage), tokens.tokens() - std::ssize(tokens.rows), "tokens");
    std::optional<std::int64_t> bytes;
    if (tokens.bytes > 0) bytes = tokens.bytes;
    const PerplexityResult result =
        perplexity(call.decoder, tokens.rows, call.config.options, bytes, [&](std::int64_t count) {
          bar.advance(count);
          check_interrupt();
        });
    std::vector<ScoreRecord> scores = perplexity_scores(call.stage, call.config.label(), result);
    if (tokens.skipped > 0) {
      scores.push_back(new_score(call.stage, call.config.label(), "skipped_lines", static_cast<double>(tokens.skipped),
                                 1, "lines of the text left out as bad", Better::kLower));
    }
    const auto parts = by_buckets(call, "nll", result.nll, result.positions, result.groups);
    scores.insert(scores.end(), parts.begin(), parts.end());
    return scores;
  }

  bool decodes_through_cache() const override { return true; }
  CachedTaskScores scores_through_cache(const TaskCall& call, const CachedDecodingConfig& cache,
                                        const CacheFormat& format) const override {
    const CachedDecoding decoding = measure_cached_decoding(call.decoder, call.surroundings.rows(call.config.data).rows,
                                                            cache, format, call.stage, call.config.label());
    return {{decoding.record}, scores_of(decoding)};
  }

  const DataOptions* scored_text(const EvaluationConfig& config) const override { return &config.data; }
};

const TaskRegistration<PerplexityEvaluation> kPerplexityTask("perplexity", "of a text, per token and per byte");

}  // namespace
}  // namespace mla
