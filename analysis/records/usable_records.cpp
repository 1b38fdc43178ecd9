#include "analysis/records/usable_records.h"

#include <algorithm>
#include <map>

#include "analysis/records/portable_config.h"
#include "core/base/error.h"

namespace mla {

UsableRecords usable_records(const RecordSet& set) {
  UsableRecords usable;
  std::map<std::string, std::vector<const LoadedRecord*>> by_hash;
  usable.left_out = skipped_notes(set);
  for (const LoadedRecord& record : set.records) {
    const RecordHead& head = record.outline.head;
    if (head.status == RunStatus::kFailed || head.status == RunStatus::kInterrupted) {
      usable.left_out.push_back(
          cat(record.path.string(), ": ", status_name(record.outline), head.message.empty() ? "" : ": ", head.message));
      continue;
    }
    auto& same = by_hash[head.content_hash];
    const auto twin = std::find_if(same.begin(), same.end(), [&](const LoadedRecord* other) {
      return !head.content_hash.empty() && portable_config(*other) == portable_config(record);
    });
    if (twin != same.end()) {
      usable.left_out.push_back(cat(record.path.string(), ": the same run as ", (*twin)->path.string()));
      continue;
    }
    same.push_back(&record);
    usable.records.push_back(&record);
  }
  return usable;
}

}  // namespace mla
