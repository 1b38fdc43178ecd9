#include "analysis/pivot/items.h"

#include <algorithm>
#include <map>
#include <set>

#include "analysis/pivot/filter.h"
#include "core/base/error.h"

namespace mla {
namespace {

std::vector<std::string> tasks_of(const Observation& observation) {
  std::vector<std::string> tasks;
  for (const ScoreOutline& score : observation.record->outline.evaluation) {
    if (score.stage == observation.stage && !contains(tasks, score.task)) tasks.push_back(score.task);
  }
  return tasks;
}

}  // namespace

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

std::vector<const LoadedRecord*> usable_records(const RecordSet& set, Table& table) {
  std::vector<const LoadedRecord*> records;
  std::map<std::string, std::vector<const LoadedRecord*>> by_hash;
  table.left_out = skipped_notes(set);
  for (const LoadedRecord& record : set.records) {
    const RecordHead& head = record.outline.head;
    if (head.status == RunStatus::kFailed || head.status == RunStatus::kInterrupted) {
      table.left_out.push_back(
          cat(record.path.string(), ": ", status_name(record.outline), head.message.empty() ? "" : ": ", head.message));
      continue;
    }
    auto& same = by_hash[head.content_hash];
    const auto twin = std::find_if(same.begin(), same.end(), [&](const LoadedRecord* other) {
      return !head.content_hash.empty() &&
             config_identity(other->outline.config) == config_identity(record.outline.config);
    });
    if (twin != same.end()) {
      table.left_out.push_back(cat(record.path.string(), ": the same run as ", (*twin)->path.string()));
      continue;
    }
    same.push_back(&record);
    records.push_back(&record);
  }
  return records;
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
  for (const LoadedRecord* record : records) {
    std::vector<std::string> stages =
        all_stages ? stages_of(record->outline) : std::vector{stage_of(record->outline, spec.stage)};
    if (stages == std::vector<std::string>{""} && spec.stage.empty() && !spec.source)
      stages = {"none"};  // not evaluated, but it has numbers
    const auto real =
        std::find_if(stages.begin(), stages.end(), [](const std::string& stage) { return stage != "source"; });
    const Observation last{record, real == stages.end() ? "source" : *real, real == stages.end()};
    if (spec.source && stage_of(record->outline, "source") == "source" && passes({last, ""}, filters)) {
      const Observation source{record, "source", true};
      if (sources.insert(plain_text(dimension(source, "model"))).second) add(source);
    }
    for (const std::string& stage : stages) {
      const Observation observation{record, stage, stage == "source"};
      if (stage.empty() || (spec.source && stage == "source") || !passes({observation, ""}, filters)) continue;
      add(observation);
    }
  }
  return items;
}

}  // namespace mla
