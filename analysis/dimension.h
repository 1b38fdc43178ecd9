// What a run is told apart by: anything of its config, and names for what tables of compression are made of.
#pragma once

#include <string>
#include <vector>

#include "analysis/record_set.h"

namespace mla {

/// One stage of one record: a model that was measured.
struct Observation {
  const LoadedRecord* record = nullptr;
  std::string stage;       ///< source, partial_rope, converted, fine_tuned, …; never empty
  bool as_source = false;  ///< the source model itself, for which the record's compression does not count
};

/// The value of a dimension, a text or a number; null where the run has none. `name` is one of dimension_names(), a
/// config path such as compress[0].rope.name, or provenance.NAME.
Json dimension(const Observation& observation, const std::string& name);

struct DimensionName {
  std::string name, description;
};
/// Those that are not config paths.
const std::vector<DimensionName>& dimension_names();

/// Throws ConfigError where none of the records has a value at `name`; `option` stands in the error.
void check_dimension(const RecordSet& set, const std::string& name, const std::string& option);

/// The value at a config path, or null: "a.b[0].c".
const Json* find_at(const Json& config, const std::string& path);

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
