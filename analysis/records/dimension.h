// What a run is told apart by: anything of its config, and names for what tables of compression are made of.
#pragma once

#include <string>
#include <vector>

#include "analysis/records/record_set.h"

namespace mla {

/// Which scores of a stage count, where the cell's cache has a codec. A task's score through it is that of "<task>,
/// cached".
enum class CacheScores {
  kAll,           ///< of both kinds, each by its own name
  kAsComputed,    ///< those that do not go through the codec
  kThroughCodec,  ///< those that do, by the name of the task alone
};

/// One stage of one record: a model that was measured.
struct Observation {
  const LoadedRecord* record = nullptr;
  std::string stage;       ///< source, partial_rope, converted, fine_tuned, …; never empty
  bool as_source = false;  ///< the source model itself, for which the record's compression does not count
  CacheScores scores = CacheScores::kAll;
};

/// The value of a dimension, a text or a number; null where the run has none. `name` is one of dimension_names(), a
/// config path such as compress[0].rope.name, or provenance.NAME.
Json dimension(const Observation& observation, const std::string& name);

/// The task of a score of `observation`, without what says that it went through the cache; absent where it does not
/// count.
std::optional<std::string> task_of(const Observation& observation, const ScoreOutline& score);
const ScoreOutline* find_score(const Observation& observation, const std::string& task, const std::string& metric);

/// The codec of the cell's cache as its config states it, a name or an object, where the observation's scores or bytes
/// are those of a cache that goes through it; otherwise null.
const Json& codec_of(const Observation& observation);
/// A codec with its options: "hqq 4 bit axis=0"; "" for null.
std::string codec_text(const Json& codec);
/// Bits of its codes; absent for null and for codecs that state none.
std::optional<double> codec_bits(const Json& codec);

struct DimensionName {
  std::string name, description;
};
/// Those that are not config paths.
const std::vector<DimensionName>& dimension_names();

/// Throws ConfigError where none of the records has a value at `name`; `option` stands in the error.
void check_dimension(const RecordSet& set, const std::string& name, const std::string& option);

/// Every path of a config that ends in a value or an empty list.
std::vector<std::string> leaf_paths(const Json& config);

/// "a" and 3 without quotes; lists and objects as JSON.
std::string plain_text(const Json& value);

/// A number that belongs to a run as a whole: bytes_per_token, saved_percent, parameters_removed, joint_error, seconds,
/// seconds.train, final_loss, …; also "/group/name@attribute" of RecordOutline::others. Absent where the run has none.
std::optional<double> run_number(const Observation& observation, const std::string& name);
const std::vector<DimensionName>& run_numbers();

/// The stage to look at: `wanted`, or the last that the record has scores of; "" where it has none.
std::string stage_of(const RecordOutline& record, const std::string& wanted);

}  // namespace mla
