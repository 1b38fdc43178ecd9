// Reading small JSON data files through field lists.
#pragma once

#include <string>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/json.h"

namespace mla {

/// The struct of a JSON object that has at least the key `needed`; `name` stands for the file in errors.
/// Throws DataError, also where read_fields would blame a config: this is data.
template <class Fields>
Fields read_data(const Json& json, const std::string& name, const std::string& needed) {
  Fields fields;
  try {
    read_fields(json, "", fields);
  } catch (const ConfigError& error) {
    throw DataError(cat(name, ": ", error.what()));
  }
  if (!json.contains(needed)) throw DataError(cat(name, ": key ", needed, " is missing"));
  return fields;
}

}  // namespace mla
