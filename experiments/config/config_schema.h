// The schemas of config files: every key with its type, default and description, from the field lists that read them.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// JSON Schema (draft 2020-12) of what `fields` (schema_of() of a config's struct) says, as a file: with "base" and
/// "$schema", lists that extend a base's, and the strategies that it names, each kind under "$defs".
Json file_schema(const std::string& title, Json fields);

/// Those of experiments, and of `mlaforge pretrain`.
Json experiment_schema();
Json pretrain_schema();

/// One key of a config.
struct ConfigKey {
  std::string path;  ///< "compress[].mkla.cached": [] stands for the entries of a list, mkla for the strategy of a name
  std::string type;  ///< "integer", "list of strings", "kept | masked", or the kind of a strategy
  Json default_value;  ///< null where there is none
  std::string description;
};

/// All keys of a file's schema, in the order of its field lists; of strategies, those of each one.
std::vector<ConfigKey> config_keys(const Json& schema);

}  // namespace mla
