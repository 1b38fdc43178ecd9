#include "analysis/pivot/items.h"

#include <algorithm>
#include <set>

#include "analysis/pivot/filter.h"
#include "analysis/records/portable_config.h"
#include "core/base/error.h"

namespace mla {
namespace {

std::vector<std::string> tasks_of(const Observation& observation) {
  std::vector<std::string> tasks;
  for (const ScoreOutline& score : observation.record->outline.evaluation) {
    const auto task = task_of(observation, score);
    if (task && !contains(tasks, *task)) tasks.push_back(*task);
  }
  return tasks;
}

bool has_scores(const Observation& observation) { return !tasks_of(observation).empty(); }

/// A config with its seeds, but for how the cache is kept.
std::string without_cache(const LoadedRecord& record) {
  Json rest = portable_config(record);
  if (rest.is_object()) rest.erase("cache");
  return rest.dump();
}

}  // namespace

std::string cache_identity(const Observation& observation) {
  const Json* cache = find_at(observation.record->outline.config, "cache");
  return codec_of(observation).is_null() || !cache ? "" : cache->dump();
}

bool contains(const std::vector<std::string>& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

Json key_of(const Item& item, const std::string& name) {
  return name == "task" ? Json(item.task) : dimension(item.observation, name);
}

std::vector<std::string> stages_of(const RecordOutline& record) {
  std::vector<std::string> stages;
  for (const ScoreOutline& score : record.evaluation) {
    if (!contains(stages, score.stage)) stages.push_back(score.stage);
  }
  return stages;
}

std::vector<Item> collect_items(const RecordSet& set, const std::vector<const LoadedRecord*>& records,
                                const TableSpec& spec) {
  const std::vector<Filter> filters = parse_filters(set, spec.where);
  const bool by_task = contains(spec.rows, "task") || contains(spec.columns, "task");
  const bool all_stages =
      spec.stage == "all" || (spec.stage.empty() && (contains(spec.rows, "stage") || contains(spec.columns, "stage")) &&
                              !spec.separate_configs);
  std::vector<Item> items;
  std::set<std::string> sources;
  const auto add = [&](const Observation& observation) {
    if (!by_task) {
      items.push_back({observation, ""});
      return;
    }
    for (const std::string& task : tasks_of(observation)) {
      if (passes({observation, task}, filters)) items.push_back({observation, task});
    }
  };
  const auto add_source = [&](const LoadedRecord& record, CacheScores scores) {
    const Observation source{&record, "source", true, scores};
    const std::string model = plain_text(dimension(source, "model"));
    if (has_scores(source) && sources.insert(model + cache_identity(source)).second) add(source);
  };
  for (const LoadedRecord* record : records) {
    const bool coded = spec.through_cache && !codec_of({record, "", false, CacheScores::kThroughCodec}).is_null();
    const CacheScores plain = spec.through_cache ? CacheScores::kAsComputed : CacheScores::kAll;
    std::vector<std::string> stages =
        all_stages ? stages_of(record->outline) : std::vector{stage_of(record->outline, spec.stage)};
    if (stages == std::vector<std::string>{""} && spec.stage.empty() && !spec.source)
      stages = {"none"};  // not evaluated, but it has numbers
    const auto real =
        std::find_if(stages.begin(), stages.end(), [](const std::string& stage) { return stage != "source"; });
    const Observation last{record, real == stages.end() ? "source" : *real, real == stages.end()};
    if (spec.source && stage_of(record->outline, "source") == "source" && passes({last, ""}, filters)) {
      add_source(*record, plain);
      if (coded) add_source(*record, CacheScores::kThroughCodec);
    }
    for (const std::string& stage : stages) {
      const Observation observation{record, stage, stage == "source", plain};
      if (stage.empty() || (spec.source && stage == "source") || !passes({observation, ""}, filters)) continue;
      // Cells that differ in their codecs alone have the same scores as computed.
      const bool is_new = !spec.through_cache || sources.insert(stage + without_cache(*record)).second;
      if (is_new) add(observation);
      const Observation through{record, stage, stage == "source", CacheScores::kThroughCodec};
      if (coded && has_scores(through)) add(through);
    }
  }
  return items;
}

}  // namespace mla
