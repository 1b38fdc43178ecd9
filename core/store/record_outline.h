// A record without its arrays, for programs that look at thousands of records; arrays are read when they are wanted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/store/record.h"

namespace mla {

/// One measured number without its samples.
struct ScoreOutline {
  std::string stage, task, metric;
  double value = 0;
  std::optional<double> standard_error;
  std::int64_t n = 0;
  bool higher_is_better = true;
  std::string unit;
  std::optional<double> spread = {};
  bool operator==(const ScoreOutline&) const = default;
};

/// The scalars of a record. What a record has beyond the groups known here is found in `others`, so that measurements
/// of a later kind need no code to be seen.
struct RecordOutline {
  std::int64_t version = kRecordVersion;  ///< of the record's layout; scores are in today's form all the same
  RecordHead head;
  Json config = Json::object(), overrides = Json::object();
  Json provenance = Json::object();                     ///< attributes by name; empty unless wanted
  std::vector<std::pair<std::string, double>> seconds;  ///< by stage, in the order run
  std::vector<Json> layers;                             ///< each layer's scalars by name, see LayerRecord
  std::vector<ScoreOutline> evaluation;                 ///< in the order written
  std::vector<CacheRecord> cache;
  std::vector<std::pair<std::string, double>> others;  ///< "/group/name@attribute" or "/group/scalar" -> number
  bool operator==(const RecordOutline&) const = default;
};

/// Which parts of an outline are read; each one left out saves time.
struct OutlineParts {
  bool provenance = true;
  bool layers = true;
  bool others = true;
  /// Whether a score is wanted; empty: all are.
  std::function<bool(const std::string& stage, const std::string& task, const std::string& metric)> wanted;
};

/// Reads a record's outline: from the note after the HDF5 content where there is one (a tenth of a millisecond), or
/// else from its groups and attributes (milliseconds), which `parts` limits. Throws DataError for a file that is
/// missing, damaged, foreign, of a later version, or lacks a number that every record has.
RecordOutline read_outline(const std::filesystem::path& path, const OutlineParts& parts = {});

/// The same without the note, for whoever doubts it.
RecordOutline read_outline_from_groups(const std::filesystem::path& path, const OutlineParts& parts = {});

class Hdf5File;
/// The outline of a record as the text of that note.
std::string outline_note(const Hdf5File& record);

/// Outlines as JSON; numbers that are not finite are texts there.
Json outline_to_json(const RecordOutline& outline);
/// Absent for an outline of a later form than this program's, whose keys mean something else. Throws DataError for what
/// is malformed; keys that are unknown are passed over.
std::optional<RecordOutline> outline_from_json(Json json, const std::string& name);

/// Arrays of a record by path, such as "/training/loss" or "/evaluation/source/toy/accuracy/per_sample"; an array that
/// the record does not have is empty. Opens the file once for all of them.
std::vector<std::vector<double>> read_arrays(const std::filesystem::path& record,
                                             const std::vector<std::string>& paths);

/// The group of a score, "/evaluation/<stage>/<task>/<metric>".
std::string score_group(const std::string& stage, const std::string& task, const std::string& metric);

}  // namespace mla
