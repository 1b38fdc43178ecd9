#include "analysis/record_set.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/base/fields.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNotOfTheResult[] = {"name", "description", "results", "save_model", "checkpoint_seconds"};

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

/// A half-written record: "<cell>.h5.<host>.<pid>.<n>.tmp", see temporary_name().
bool is_temporary(const fs::path& path) {
  return path.extension() == ".tmp" && path.filename().string().find(".h5.") != std::string::npos;
}

void add_folder(const fs::path& folder, RecordFiles& files) {
  std::error_code error;
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

void erase_seeds(Json& value) {
  if (value.is_object()) value.erase("seed");
  for (Json& member : value) {
    if (member.is_structured()) erase_seeds(member);
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

RecordSet read_records(const std::vector<fs::path>& paths, const OutlineParts& parts) {
  RecordFiles files = find_records(paths);
  RecordSet set;
  set.temporary = std::move(files.temporary);
  for (const fs::path& path : files.records) {
    try {
      set.records.push_back({path, read_outline(path, parts)});
    } catch (const DataError& error) {
      set.skipped.emplace_back(error.what());
    }
  }
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

Json config_identity(const Json& config) {
  Json identity = config;
  if (identity.is_object()) {
    for (const char* key : kNotOfTheResult) identity.erase(key);
  }
  return identity;
}

Json config_without_seeds(const Json& config) {
  Json rest = config_identity(config);
  erase_seeds(rest);
  return rest;
}

}  // namespace mla
