#include "experiments/bench/bench.h"
#include "experiments/data/score_record.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

struct SpeedOptions {
  std::int64_t batch = 1, context = 512, new_tokens = 33, warm_up = 1, repeats = 3;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("batch", self.batch, "sequences decoded at once");
    visit("context", self.context, "tokens in the cache before the first step: random numbers, which decoding ignores");
    visit("new_tokens", self.new_tokens, "tokens of a run, the first of which is no step");
    visit("warm_up", self.warm_up, "runs that do not count");
    visit("repeats", self.repeats, "runs that do; one has no standard error");
  }
  void validate(const std::string& path) const {
    const auto least = [&](const char* name, std::int64_t value, std::int64_t bound) {
      if (value < bound) throw ConfigError(cat(path, ".", name, " = ", value, ": must be at least ", bound));
    };
    least("batch", batch, 1);
    least("context", context, 1);
    least("new_tokens", new_tokens, 2);
    least("warm_up", warm_up, 0);
    least("repeats", repeats, 1);
  }
};

/// How long a step of decoding takes, through the cache as computed and through the cell's codec. Comparable within
/// one run on a quiet machine; `mlaforge bench` shows more.
class SpeedEvaluation final : public EvaluationTask {
 public:
  using Options = SpeedOptions;
  explicit SpeedEvaluation(const Options& options) : options_(options) {}

  std::vector<std::string> reads() const override { return {}; }
  Asks asks() const override { return Asks::kSteps; }
  bool is_of_time() const override { return true; }
  bool is_of_items() const override { return true; }
  bool decodes_through_cache() const override { return true; }
  void validate(const EvaluationConfig&, const std::string&) const override {}

  TaskCost cost(const TaskCall&) const override {
    return {static_cast<double>(options_.batch * options_.new_tokens * (options_.warm_up + options_.repeats))};
  }

  std::vector<ScoreRecord> scores(const TaskCall& call) const override {
    return measured(call, CacheFormat{}, call.config.label());
  }
  CachedTaskScores scores_through_cache(const TaskCall& call, const CachedDecodingConfig&,
                                        const CacheFormat& format) const override {
    return {{}, measured(call, format, call.config.label() + ", cached")};
  }

 private:
  std::vector<ScoreRecord> measured(const TaskCall& call, const CacheFormat& format, const std::string& task) const {
    BenchCell cell;
    cell.batch = options_.batch;
    cell.context = options_.context;
    cell.new_tokens = options_.new_tokens;
    cell.warm_up = options_.warm_up;
    cell.repeats = options_.repeats;
    cell.prefill = false;
    check_room(call.decoder, cell);
    Decoder ready = call.decoder.clone();
    ready.prepare_decode();
    const BenchResult result = measure_decoding(ready, cell, format);
    ScoreRecord score = new_score(call.stage, task, "ms_per_token", result.token_ms.median(),
                                  std::ssize(result.token_ms.values), "ms", Better::kLower);
    score.standard_error = result.token_ms.standard_error();
    score.per_sample = result.token_ms.values;
    return {std::move(score)};
  }

  SpeedOptions options_;
};

const TaskRegistration<SpeedEvaluation> kSpeedTask(
    "speed", "milliseconds of a decoding step, at a batch and a context; other machines and moments give others");

}  // namespace
}  // namespace mla
