#include "analysis/compare/paired_items.h"

#include "analysis/records/portable_config.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// The hashes of the files that an evaluation has read, by role; empty where the record does not say.
Json files_of(const RecordOutline& record, const std::string& task) {
  Json files = Json::object();
  const Json* evaluations = find_at(record.config, "evaluate");
  if (!evaluations || !evaluations->is_array()) return files;
  const Json hashes = data_hashes(record);
  for (std::size_t i = 0; i < evaluations->size(); ++i) {
    const Json& each = (*evaluations)[i];
    if (!each.is_object()) continue;
    std::string label = each.value("name", "");
    if (label.empty()) label = each.value("task", "");
    // "text", "text, cached" and LongBench's "longbench.hotpotqa" are of one evaluation.
    const std::string rest = task.starts_with(label) ? task.substr(label.size()) : "no";
    if (!rest.empty() && !rest.starts_with(".") && rest != ", cached") continue;
    const std::string role = cat("evaluate[", i, "][");
    for (const auto& [name, hash] : hashes.items()) {
      if (name.starts_with(role)) files[name.substr(role.size())] = hash;
    }
    if (rest.empty()) break;
  }
  return files;
}

}  // namespace

std::vector<std::int64_t> groups_of(std::size_t samples, const std::vector<std::int64_t>& group_sizes) {
  constexpr std::size_t kMostSingle = 2000, kBlocks = 200;
  if (!group_sizes.empty() || samples <= kMostSingle) return group_sizes;
  std::vector<std::int64_t> sizes;
  for (std::size_t block = 0; block < kBlocks; ++block)
    sizes.push_back(static_cast<std::int64_t>((block + 1) * samples / kBlocks - block * samples / kBlocks));
  return sizes;
}

Units units_of(const std::vector<double>& samples, const std::vector<std::int64_t>& group_sizes) {
  const std::vector<std::int64_t> groups = groups_of(samples.size(), group_sizes);
  if (groups.empty()) return {samples, {}};
  Units units;
  std::size_t begin = 0;
  for (const std::int64_t size : groups) {
    if (size == 0) continue;
    const std::size_t end = begin + static_cast<std::size_t>(size);
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) sum += samples[i];
    units.means.push_back(sum / static_cast<double>(size));
    units.weights.push_back(static_cast<double>(size));
    begin = end;
  }
  return units;
}

std::string unpaired_because(const std::vector<SamplePart>& before, const RecordSamples& record_before,
                             const std::vector<SamplePart>& after, const RecordSamples& record_after) {
  if (before.empty() && after.empty()) return "the records have no items of it";
  if (before.empty() || after.empty()) return "one of the records has no items of it";
  if (before.size() != after.size()) return "averages of other tasks";
  for (std::size_t k = 0; k < before.size(); ++k) {
    if (before[k].task != after[k].task) return "averages of other tasks";
    if (std::string problem = pairing_problem(before[k], after[k]); !problem.empty()) return problem;
    const Json a = files_of(record_before.record().outline, before[k].task),
               b = files_of(record_after.record().outline, after[k].task);
    if (!a.empty() && !b.empty() && a != b) return "the evaluation read other files";
  }
  return "";
}

}  // namespace mla
