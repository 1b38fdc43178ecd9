#include "analysis/records/record_set.h"

#include <algorithm>
#include <map>
#include <set>

#include "analysis/records/portable_config.h"
#include "core/base/config_path.h"
#include "core/base/error.h"
#include "core/base/fields.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

/// A half-written record: "<cell>.h5.<host>.<pid>.<n>.tmp", see temporary_name().
bool is_temporary(const fs::path& path) {
  return path.extension() == ".tmp" && path.filename().string().find(".h5.") != std::string::npos;
}

void add_folder(const fs::path& folder, RecordFiles& files) {
  std::error_code error;
  fs::directory_iterator(folder, error);  // one below that cannot be read is passed over, not the one that was named
  if (error) throw DataError(cat(folder.string(), ": cannot be read: ", error.message()));
  fs::recursive_directory_iterator entries(folder, fs::directory_options::skip_permission_denied, error), end;
  if (error) throw DataError(cat(folder.string(), ": cannot be listed: ", error.message()));
  for (; entries != end; entries.increment(error)) {
    if (error) throw DataError(cat(folder.string(), ": cannot be listed: ", error.message()));
    const fs::path& path = entries->path();
    if (entries->is_directory(error)) {
      if (is_hidden(path)) entries.disable_recursion_pending();
      continue;
    }
    if (path.extension() == ".h5") files.records.push_back(path);
    if (is_temporary(path)) files.temporary.push_back(path);
  }
}

void make_unique(std::vector<fs::path>& paths) {
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
}

/// The value at a place of the grid: as the config states it, or else as the cell does. Null where there is none.
Json value_at(const RecordOutline& record, const std::string& path) {
  const auto own = record.overrides.find(path);
  if (own != record.overrides.end()) return without_folders(path, *own);
  const Json* found = find_at(record.config, path);
  return found ? without_folders(path, *found) : Json();
}

/// Fills in the settings of all records: overrides in which those of one model that have such a key differ.
void find_settings(std::vector<LoadedRecord>& records) {
  std::map<std::string, std::map<std::string, std::set<std::string>>> values;
  std::vector<std::string> models;
  for (const LoadedRecord& record : records) {
    models.push_back(model_name(record.outline.config));
    for (const auto& [path, unused] : record.outline.overrides.items()) values[models.back()][path];
  }
  for (std::size_t i = 0; i < records.size(); ++i) {
    for (auto& [path, seen] : values[models[i]]) {
      const Json value = value_at(records[i].outline, path);
      if (!value.is_null() || records[i].outline.overrides.contains(path))
        seen.insert(value.dump(-1, ' ', false, Json::error_handler_t::replace));
    }
  }
  for (std::size_t i = 0; i < records.size(); ++i) {
    for (const auto& [path, value] : records[i].outline.overrides.items()) {
      if (values[models[i]][path].size() > 1) records[i].settings[path] = without_folders(path, value);
    }
  }
}

}  // namespace

RecordFiles find_records(const std::vector<fs::path>& paths) {
  RecordFiles files;
  for (const fs::path& path : paths) {
    if (!fs::exists(path)) throw DataError(cat(path.string(), ": no such file or folder"));
    if (fs::is_directory(path)) {
      add_folder(path, files);
    } else {
      files.records.push_back(path);
    }
  }
  make_unique(files.records);
  make_unique(files.temporary);
  return files;
}

RecordSet read_records(const std::vector<fs::path>& paths) {
  RecordFiles files = find_records(paths);
  RecordSet set;
  set.temporary = std::move(files.temporary);
  for (const fs::path& path : files.records) {
    try {
      set.records.push_back({path, read_outline(path), Json::object(), {}});
    } catch (const DataError& error) {
      set.skipped.emplace_back(error.what());
    }
  }
  find_settings(set.records);
  find_inputs(set.records);
  return set;
}

std::vector<std::string> skipped_notes(const RecordSet& set) {
  std::vector<std::string> notes = set.skipped;
  for (const fs::path& path : set.temporary)
    notes.push_back(path.string() + ": half-written: by a run that still works on it, or has died");
  return notes;
}

std::string status_name(const RecordOutline& outline) { return detail::write_enum(outline.head.status); }

double cache_ratio(const RecordOutline& outline) {
  double before = 0, after = 0;
  for (const Json& layer : outline.layers) {
    before += layer.value("cached_elements_before", 0.0);
    after += layer.value("cached_elements", 0.0);
  }
  return before > 0 ? after / before : 1;
}

const Json* find_at(const Json& config, const std::string& path) {
  const Json* at = &config;
  for (const std::string& part : split_path(path)) {
    if (part.front() == '[') {
      const std::size_t index = std::stoul(part.substr(1));
      if (!at->is_array() || index >= at->size()) return nullptr;
      at = &(*at)[index];
    } else {
      if (!at->is_object()) return nullptr;
      const auto found = at->find(part);
      if (found == at->end()) return nullptr;
      at = &*found;
    }
  }
  return at;
}

std::string model_name(const Json& config) {
  const auto model = config.is_object() ? config.find("model") : config.end();
  if (!config.is_object() || model == config.end()) return "";
  const Json& path = model->is_object() ? model->value("path", Json()) : *model;
  if (!path.is_string()) return "";
  fs::path folder = path.get<std::string>();
  if (!folder.has_filename()) folder = folder.parent_path();
  return folder.filename().string();
}

}  // namespace mla
