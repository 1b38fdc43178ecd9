#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/evaluate/divergence.h"
#include "experiments/tasks/distance_scores.h"
#include "experiments/tasks/text_task.h"

namespace mla {
namespace {

constexpr const char* kDistanceName = "distance";

class DistanceEvaluation final : public TextTask {
 public:
  explicit DistanceEvaluation(Options) : TextTask(2) {}  // the source model runs beside

  /// Those of distance_scores(), and kl_<first>-<last> by position. The source model has no distance from itself.
  std::vector<ScoreRecord> scores(const TaskCall& call) const override {
    if (call.stage == "source") return {};
    const TokenRows& tokens = call.surroundings.rows(call.config.data);
    Progress bar(cat("distance ", call.stage), tokens.tokens() - std::ssize(tokens.rows), "tokens");
    const TokenDivergence result =
        divergence(call.surroundings.source(), call.decoder, tokens.rows, call.config.options, [&](std::int64_t count) {
          bar.advance(count);
          check_interrupt();
        });
    std::vector<ScoreRecord> scores = distance_scores(call.stage, call.config.label(), result);
    const auto parts = by_buckets(call, "kl", result.kl, result.positions, result.groups);
    scores.insert(scores.end(), parts.begin(), parts.end());
    return scores;
  }

  bool is_distance() const override { return true; }
};

const TaskRegistration<DistanceEvaluation> kDistanceTask(kDistanceName,
                                                         "from the source model on a text, token by token");

}  // namespace

EvaluationConfig distance_on_text_of(const EvaluationConfig& text) {
  EvaluationConfig distance = text;
  distance.task = kDistanceName;
  distance.name = cat(text.label(), " distance");
  return distance;
}

}  // namespace mla
