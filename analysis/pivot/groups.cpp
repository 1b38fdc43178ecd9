#include "analysis/pivot/groups.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

/// Texts of configs without seeds, once per record.
class ConfigTexts {
 public:
  const std::string& of(const LoadedRecord& record) {
    const auto [found, is_new] = texts_.try_emplace(&record);
    if (is_new) found->second = config_without_seeds(record.outline.config).dump();
    return found->second;
  }

 private:
  std::map<const LoadedRecord*, std::string> texts_;
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
    if (spec.separate_configs && !item.observation.as_source) text += configs.of(*item.observation.record);
    const auto [found, is_new] = known.try_emplace(text, groups.size());
    if (is_new) groups.push_back({keys, &item, {}, {}, {}});
    Group& group = groups[found->second];
    group.records.insert(item.observation.record);
    group.runs[column].push_back(values_of(item, specs, average_after));
    if (!item.observation.as_source) group.configs[column].insert(configs.of(*item.observation.record));
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
  const std::size_t model = place("model"), saved = place("saved_percent"), stage = place("stage");
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
