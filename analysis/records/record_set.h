// All records under some folders, and what could not be read, by name and reason.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/store/record_outline.h"

namespace mla {

struct LoadedRecord {
  std::filesystem::path path;
  RecordOutline outline;
  /// Those of the overrides in which records of the same model differ: files that go with a model are none of them.
  Json settings = Json::object();
  std::string input_hashes = {};  ///< hash of what was read, see find_inputs(); empty where the record does not say
};

struct RecordSet {
  std::vector<LoadedRecord> records;  ///< in order of path
  /// One line each, beginning with the path: files that are no record (foreign, cut, of another version, unreadable).
  std::vector<std::string> skipped;
  /// Files that a run left half-written, or is writing.
  std::vector<std::filesystem::path> temporary;
};

/// What one looks for in results: records, and half-written files.
struct RecordFiles {
  std::vector<std::filesystem::path> records, temporary;
};

/// All files *.h5 under the given folders, and the given files themselves, each once, in order of path. Hidden folders
/// (.cells) are left out: they hold no results. Throws DataError for a path that does not exist.
RecordFiles find_records(const std::vector<std::filesystem::path>& paths);

/// Reads the outlines of all of them.
RecordSet read_records(const std::vector<std::filesystem::path>& paths);

/// One line each on what is not among the records, for the end of a report; empty where all were read.
std::vector<std::string> skipped_notes(const RecordSet& set);

/// "complete", "diverged", "failed" or "interrupted".
std::string status_name(const RecordOutline& outline);

/// Cached elements per token after compression over before; 1 for a model that was not compressed.
double cache_ratio(const RecordOutline& outline);

/// The value at a config path, or null: "a.b[0].c".
const Json* find_at(const Json& config, const std::string& path);

/// The folder of the model that a config names; "" where it names none.
std::string model_name(const Json& config);

}  // namespace mla
