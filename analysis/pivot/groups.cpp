#include "analysis/pivot/groups.h"

#include <algorithm>

#include "analysis/records/portable_config.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// Texts of configs without seeds, once per record; without the cache where the scores do not go through it.
class ConfigTexts {
 public:
  const std::string& of(const Observation& observation) {
    const bool no_cache = observation.scores == CacheScores::kAsComputed;
    const auto [found, is_new] = texts_.try_emplace({observation.record, no_cache});
    if (is_new) {
      Json config = portable_config_without_seeds(*observation.record);
      if (no_cache && config.is_object()) config.erase("cache");
      found->second = config.dump();
    }
    return found->second;
  }

 private:
  std::map<std::pair<const LoadedRecord*, bool>, std::string> texts_;
};

}  // namespace

std::vector<Group> collect_groups(const std::vector<Item>& items, const TableSpec& spec,
                                  const std::vector<ValueSpec>& specs, std::optional<std::size_t> average_after) {
  std::vector<Group> groups;
  std::map<std::string, std::size_t> known;
  ConfigTexts configs;
  for (const Item& item : items) {
    std::vector<Json> keys, column;
    std::string text;
    for (const std::string& name : spec.rows) {
      keys.push_back(key_of(item, name));
      text += cat(keys.back().dump(), "\n");
    }
    for (const std::string& name : spec.columns) column.push_back(key_of(item, name));
    if (spec.separate_configs) {
      text += item.observation.as_source ? cache_identity(item.observation) : configs.of(item.observation);
    }
    const auto [found, is_new] = known.try_emplace(text, groups.size());
    if (is_new) groups.push_back({keys, &item, {}, {}, {}});
    Group& group = groups[found->second];
    group.records.insert(item.observation.record);
    group.runs[column].push_back({&item, values_of(item, specs, average_after)});
    if (!item.observation.as_source) group.configs[column].insert(configs.of(item.observation));
  }
  return groups;
}

std::set<std::string> mixed_paths(const std::vector<Group>& groups) {
  constexpr std::size_t kLooked = 50;
  std::set<std::string> paths;
  std::size_t looked = 0;
  for (const Group& group : groups) {
    for (const auto& [column, texts] : group.configs) {
      if (texts.size() < 2 || ++looked > kLooked) continue;
      const Json first = Json::parse(*texts.begin());
      for (const std::string& text : texts) {
        const Json other = Json::parse(text);
        for (const Json* side : {&first, &other}) {
          for (const std::string& path : leaf_paths(*side)) {
            const Json *a = find_at(first, path), *b = find_at(other, path);
            if (!a || !b || *a != *b) paths.insert(path);
          }
        }
      }
    }
  }
  return paths;
}

void sort_groups(std::vector<Group>& groups, const TableSpec& spec) {
  const auto place = [&](const char* name) {
    return static_cast<std::size_t>(std::find(spec.rows.begin(), spec.rows.end(), name) - spec.rows.begin());
  };
  const std::size_t model = place("model"), saved = std::min(place("saved_percent"), place("nominal_saved_percent")),
                    stage = place("stage");
  const bool as_paper = spec.source && std::max({model, saved, stage}) < spec.rows.size();
  std::stable_sort(groups.begin(), groups.end(), [&](const Group& a, const Group& b) {
    if (!as_paper) return before(a.keys, b.keys);
    const auto key = [&](const Group& group) {
      return std::vector<Json>{group.keys[model], group.keys[saved], group.keys[stage] == "source" ? 0 : 1};
    };
    return before(key(a), key(b));
  });
}

}  // namespace mla
