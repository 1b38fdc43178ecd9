#include <algorithm>
#include <cmath>

#include "experiments/data/score_record.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

/// The unweighted means of scores that all `parts` of `scores` have, with their standard errors taken as independent.
std::vector<ScoreRecord> mean_scores(const std::string& stage, const std::string& name,
                                     const std::vector<std::string>& parts, const std::vector<ScoreRecord>& scores) {
  const auto of = [&](const std::string& task, const std::string& metric) {
    return std::find_if(scores.begin(), scores.end(), [&](const ScoreRecord& score) {
      return score.stage == stage && score.task == task && score.metric == metric;
    });
  };
  std::vector<ScoreRecord> means;
  const double count = static_cast<double>(parts.size());
  for (const ScoreRecord& first : scores) {
    if (first.stage != stage || first.task != parts.front() || !first.standard_error) continue;
    double sum = 0, squares = 0;
    std::int64_t samples = 0;
    const bool shared = std::all_of(parts.begin(), parts.end(), [&](const std::string& part) {
      const auto found = of(part, first.metric);
      if (found == scores.end()) return false;
      sum += found->value;
      squares += std::pow(found->standard_error.value_or(0), 2);
      samples += found->n;
      return true;
    });
    if (!shared) continue;
    means.push_back(new_score(stage, name, first.metric, sum / count, samples, first.unit,
                              first.higher_is_better ? Better::kHigher : Better::kLower));
    means.back().standard_error = std::sqrt(squares) / count;
  }
  return means;
}

class MeanEvaluation final : public EvaluationTask {
 public:
  explicit MeanEvaluation(Options) {}

  std::vector<std::string> reads() const override { return {"of"}; }
  Asks asks() const override { return Asks::kNothing; }
  void validate(const EvaluationConfig& config, const std::string& path) const override {
    if (config.of.empty()) throw ConfigError(cat(path, ".of: name the evaluations to average"));
  }
  TaskCost cost(const TaskCall&) const override { return {}; }
  std::vector<ScoreRecord> scores(const TaskCall& call) const override {
    return mean_scores(call.stage, call.config.label(), call.config.of, call.earlier);
  }
  bool is_of_items() const override { return true; }
};

const TaskRegistration<MeanEvaluation> kMeanTask("mean", "the average of other evaluations' scores");

}  // namespace
}  // namespace mla
