#include "experiments/tasks/recall_scores.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/evaluate/position_buckets.h"
#include "experiments/data/score_record.h"

namespace mla {
namespace {

ScoreRecord mean_score(const std::string& stage, const std::string& task, const std::string& metric,
                       const std::vector<double>& values, const std::vector<std::int64_t>& groups,
                       bool higher_is_better, const std::string& unit) {
  const Estimate mean = grouped_mean(values, groups);
  ScoreRecord score = new_score(stage, task, metric, mean.value, std::ssize(values), unit,
                                higher_is_better ? Better::kHigher : Better::kLower);
  score.standard_error = mean.standard_error;
  return score;
}

/// The values of the items that `wanted` accepts.
template <class Wanted>
std::vector<double> chosen_values(const std::vector<double>& values, const std::vector<RecallItem>& items,
                                  const Wanted& wanted) {
  std::vector<double> some;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (wanted(items[i])) some.push_back(values[i]);
  }
  return some;
}

/// Each value once, in the order in which they come.
template <class Get>
auto each(const std::vector<RecallItem>& items, const Get& get) {
  std::vector<std::decay_t<decltype(get(items.front()))>> found;
  for (const RecallItem& item : items) {
    if (std::find(found.begin(), found.end(), get(item)) == found.end()) found.push_back(get(item));
  }
  return found;
}

}  // namespace

std::vector<ScoreRecord> recall_scores(const std::string& stage, const std::string& task, const RecallTask& asked,
                                       const RecallResult& result) {
  struct Measure {
    std::string name;
    const std::vector<double>& values;
    bool higher_is_better;
    const char* unit;
  };
  const Measure measures[] = {{"exact", result.exact, true, "share of items"},
                              {"choice", result.chosen, true, "share of items"},
                              {"answer_nll", result.nll, false, "nats per answer"}};
  std::vector<ScoreRecord> scores;
  const auto add = [&](const Measure& measure, const std::string& metric, const std::vector<double>& values) {
    scores.push_back(mean_score(stage, task, metric, values, {}, measure.higher_is_better, measure.unit));
    scores.back().per_sample = values;
  };
  for (const Measure& measure : measures) add(measure, measure.name, measure.values);
  for (const std::int64_t length : each(asked.items, [](const RecallItem& item) { return item.length; })) {
    for (const Measure& measure : measures) {
      const std::string name = cat(measure.name, "_", length);
      add(measure, name,
          chosen_values(measure.values, asked.items, [&](const RecallItem& item) { return item.length == length; }));
      if (!measure.higher_is_better) continue;
      for (const double depth : each(asked.items, [](const RecallItem& item) { return item.depth; })) {
        add(measure, cat(name, "_at_", 100 * depth),
            chosen_values(measure.values, asked.items,
                          [&](const RecallItem& item) { return item.length == length && item.depth == depth; }));
      }
    }
  }
  return scores;
}

std::vector<ScoreRecord> position_scores(const std::string& stage, const std::string& task, const std::string& metric,
                                         const std::vector<double>& values, const std::vector<std::int64_t>& positions,
                                         const SampleGroups& groups,
                                         const std::optional<std::vector<std::int64_t>>& starts, std::int64_t context,
                                         std::int64_t trained) {
  std::vector<ScoreRecord> scores;
  if (!starts) return scores;
  const auto buckets =
      by_position(values, positions, groups.sizes, starts->empty() ? usual_buckets(context, trained) : *starts);
  for (const PositionBucket& bucket : buckets) {
    scores.push_back(mean_score(stage, task, cat(metric, "_", bucket.name()), bucket.values, bucket.groups, false,
                                "nats per token"));
    scores.back().group_unit = groups.unit;
  }
  return scores;
}

}  // namespace mla
