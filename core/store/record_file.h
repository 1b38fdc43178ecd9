// The file of a record, for readers of parts of it.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/store/hdf5_file.h"

namespace mla {

/// A record of a later program: nobody but that may read it, and nobody may take it for damaged and write over it.
class NewerRecord : public DataError {
 public:
  using DataError::DataError;
};

/// Opens `path` and makes sure that it is a record of this version or one before. What another program has added to the
/// groups of a record is hidden. Throws DataError otherwise, and for a record in which something was changed.
Hdf5File open_record(const std::filesystem::path& path);

/// The version of an open record's layout. Throws NewerRecord for one above kRecordVersion.
std::int64_t record_version(const Hdf5File& record);

/// A score as a record of `version` keeps it, in today's form (see kRecordVersion). `Score` is a ScoreRecord or a
/// ScoreOutline.
template <class Score>
void upgrade_score(std::int64_t version, Score& score) {
  if (version >= 2 || score.task != "bench") return;
  score.spread = score.standard_error;
  score.standard_error.reset();
}

/// Members of a group that hold what this program calls a group: it has described their scalars. Those that another
/// program added are none.
std::vector<std::string> described_groups(const Hdf5File& record, const std::string& group);
/// Members that are groups at all.
std::vector<std::string> member_groups(const Hdf5File& record, const std::string& group);

/// The seconds of each stage, in the order run.
std::vector<std::pair<std::string, double>> read_stage_seconds(const Hdf5File& record);

/// Whether the scalars of a layer that tables and figures compute with are numbers, as far as they are there.
bool has_numbers_only(const Json& layer);

/// The group of a layer, "/compression/layer_000".
std::string layer_group(std::size_t layer);
/// The group of a score during training, "/training_scores/<task>/<metric>".
std::string training_scores_group(const std::string& task, const std::string& metric);

}  // namespace mla
