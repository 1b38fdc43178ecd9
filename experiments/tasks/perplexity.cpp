#include "core/evaluate/perplexity.h"

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "experiments/data/score_record.h"
#include "experiments/tasks/perplexity_scores.h"
#include "experiments/tasks/text_task.h"

namespace mla {
namespace {

/// How the text is cut into windows, and what else is told of it.
struct PerplexityTaskOptions {
  WindowRule windows = WindowRule::kStrided;
  bool per_word = false;
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit(
        "windows", self.windows,
        "strided: by context and stride | rolling: as lm-evaluation-harness, each token once, the first one after BOS "
        "(EOS where there is none), `context` tokens read | bos_per_window: BOS begins each window");
    visit("per_word", self.per_word, "tell also word_perplexity and byte_perplexity, as lm-evaluation-harness does");
  }
};

/// By word and by byte of the text; errors by the delta method.
void add_per_unit(const TaskCall& call, const TokenRows& tokens, const PerplexityResult& result,
                  std::vector<ScoreRecord>& scores) {
  const std::string& label = call.config.label();
  if (tokens.words == 0 || tokens.bytes == 0) {
    throw DataError(cat("evaluate.", label, ".perplexity.per_word: the words of ", join(call.config.data.files),
                        " are not known; give whole documents of text, not token ids or rows of a length"));
  }
  for (const auto& [metric, units] : {std::pair{"word_perplexity", tokens.words}, {"byte_perplexity", tokens.bytes}}) {
    scores.push_back(
        new_score(call.stage, label, metric, perplexity_per(result, units), result.scored_tokens, "", Better::kLower));
    const double per_unit = static_cast<double>(result.scorable_tokens) / static_cast<double>(units);
    scores.back().standard_error = scores.back().value * per_unit * result.standard_error;
  }
}

class PerplexityEvaluation final : public TextTask {
 public:
  using Options = PerplexityTaskOptions;
  explicit PerplexityEvaluation(Options options) : TextTask(1), options_(options) {}

  void validate(const EvaluationConfig& config, const std::string& path) const override {
    TextTask::validate(config, path);
    if (options_.windows != WindowRule::kStrided && config.options.stride)
      throw ConfigError(cat(path, ".stride = ", *config.options.stride,
                            ": belongs to strided windows; leave it out, or perplexity.windows"));
  }

  /// Metrics nll with every token's own value, perplexity, bits_per_byte where the bytes are known, word_perplexity and
  /// byte_perplexity where they are asked for, skipped_lines where there are any, and nll_<first>-<last> by position.
  std::vector<ScoreRecord> scores(const TaskCall& call) const override {
    const TokenRows& tokens = call.surroundings.rows(call.config.data);
    Progress bar(cat("evaluate ", call.stage), tokens.tokens() - std::ssize(tokens.rows), "tokens");
    std::optional<std::int64_t> bytes;
    if (tokens.bytes > 0) bytes = tokens.bytes;
    const std::int32_t first = options_.windows == WindowRule::kStrided ? 0 : first_token(call);
    const PerplexityResult result = perplexity_by(options_.windows, first, call.decoder, tokens.rows,
                                                  call.config.options, bytes, [&](std::int64_t count) {
                                                    bar.advance(count);
                                                    check_interrupt();
                                                  });
    std::vector<ScoreRecord> scores = perplexity_scores(call.stage, call.config.label(), result);
    if (options_.per_word) add_per_unit(call, tokens, result, scores);
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

 private:
  /// What windows begin with: BOS, or where rolling ones find none, EOS.
  std::int32_t first_token(const TaskCall& call) const {
    const Tokenizer& tokenizer = call.surroundings.tokenizer();
    if (tokenizer.bos()) return *tokenizer.bos();
    if (options_.windows == WindowRule::kRolling && tokenizer.eos()) return *tokenizer.eos();
    throw ConfigError(cat("evaluate.", call.config.label(), ".perplexity.windows: the tokenizer names no BOS token",
                          options_.windows == WindowRule::kRolling ? ", and no EOS token in its place" : "",
                          "; strided windows need none"));
  }

  Options options_;
};

const TaskRegistration<PerplexityEvaluation> kPerplexityTask("perplexity", "of a text, per token and per byte");

}  // namespace
}  // namespace mla
