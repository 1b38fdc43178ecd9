#include "experiments/tasks/text_task.h"

#include "experiments/tasks/recall_scores.h"

namespace mla {

TaskCost TextTask::cost(const TaskCall& call) const {
  const PerplexityOptions& options = call.config.options;
  const double overlap =
      options.stride ? static_cast<double>(options.context) / static_cast<double>(*options.stride) : 1;
  return {models_ * overlap * static_cast<double>(call.surroundings.rows(call.config.data).tokens())};
}

std::vector<ScoreRecord> TextTask::by_buckets(const TaskCall& call, const std::string& metric,
                                              const std::vector<double>& values,
                                              const std::vector<std::int64_t>& positions, const SampleGroups& groups) {
  return position_scores(call.stage, call.config.label(), metric, values, positions, groups, call.config.buckets,
                         call.config.options.context, call.decoder.spec().max_positions);
}

}  // namespace mla
