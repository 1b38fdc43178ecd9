// What tasks that score the tokens of a text have in common.
#pragma once

#include <string>
#include <vector>

#include "core/base/statistics.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {

class TextTask : public EvaluationTask {
 public:
  std::vector<std::string> reads() const override { return {"data", "buckets", "context", "stride", "batch_tokens"}; }
  Asks asks() const override { return Asks::kLogLikelihoods; }
  void validate(const EvaluationConfig& config, const std::string& path) const override {
    config.data.validate(path + ".data");
  }
  std::vector<std::string> files(const EvaluationConfig& config) const override { return config.data.files; }
  /// Windows that overlap are computed again.
  TaskCost cost(const TaskCall& call) const override;

 protected:
  /// `models`: how many of them read the text.
  explicit TextTask(double models) : models_(models) {}
  /// Scores of `metric` by position, where the config asks for them.
  static std::vector<ScoreRecord> by_buckets(const TaskCall& call, const std::string& metric,
                                             const std::vector<double>& values,
                                             const std::vector<std::int64_t>& positions, const SampleGroups& groups);

 private:
  double models_;
};

}  // namespace mla
