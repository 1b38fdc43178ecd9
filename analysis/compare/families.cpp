#include "analysis/compare/families.h"

#include <algorithm>

#include "analysis/records/portable_config.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// Takes the value at "a.b[0].c" out of a config.
void erase_at(Json& config, const std::string& path) {
  const std::size_t dot = path.rfind('.');
  const std::string outer = dot == std::string::npos ? "" : path.substr(0, dot);
  std::string key = path.substr(dot == std::string::npos ? 0 : dot + 1);
  key.resize(std::min(key.size(), key.find('[')));
  auto* place = outer.empty() ? &config : const_cast<Json*>(find_at(config, outer));
  if (place != nullptr && place->is_object()) place->erase(key);
}

/// What cells that differ in the path's value alone have in common. The files of a model go with its path.
std::string config_family(const FamilyCell& cell, const std::string& by) {
  Json config = portable_config(*cell.record);
  erase_at(config, by);
  if (by.starts_with("model")) config.erase("input_hashes");
  return config.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// The same by the settings of the grids that they come from.
std::string settings_family(const FamilyCell& cell, const std::string& by) {
  Json settings = {{"model", by.starts_with("model") ? "" : model_name(cell.record->outline.config)}};
  for (const auto& [path, value] : cell.record->outline.overrides.items()) {
    const bool same =
        path == by || by.starts_with(path + ".") || by.starts_with(path + "[") || path.starts_with(by + ".");
    if (!same) settings[path] = without_folders(path, value);
  }
  return settings.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<Family> families_by(const std::vector<FamilyCell>& cells, const std::string& by,
                                std::string (*family_of)(const FamilyCell&, const std::string&), std::size_t& doubles) {
  std::map<std::string, Family> all;
  doubles = 0;
  for (const FamilyCell& cell : cells) doubles += !all[family_of(cell, by)].emplace(cell.value, &cell).second;
  std::vector<Family> families;
  for (auto& [key, family] : all) families.push_back(std::move(family));
  return families;
}

bool has_pairs(const std::vector<Family>& families) {
  return std::any_of(families.begin(), families.end(), [](const Family& family) { return family.size() > 1; });
}

}  // namespace

std::vector<Family> make_families(const std::vector<FamilyCell>& cells, const std::string& by,
                                  std::vector<std::string>& notes) {
  std::size_t doubles = 0;
  std::vector<Family> families = families_by(cells, by, config_family, doubles);
  if (!has_pairs(families)) {
    families = families_by(cells, by, settings_family, doubles);
    if (has_pairs(families))
      notes.push_back(cat("cells are paired by the other settings of their grids: with ", by,
                          " other parts of their configs change, too"));
  }
  if (!has_pairs(families))
    throw DataError(cat("compare: no two cells differ in ", by, " alone (seeds and all other keys equal)"));
  if (doubles > 0) notes.push_back(cat(doubles, " cells have the config of another one and are left out"));
  return families;
}

}  // namespace mla
