// YAML files, read as the JSON that they stand for.
#pragma once

#include <filesystem>
#include <string>

#include "core/base/json.h"

namespace mla {

/// Parses `text` by the core schema of YAML 1.2: `no`, `on` and `12:30` are strings, `true`, `null` and `0x1f` are what
/// they are in JSON. Anchors and aliases may be used. `name` stands in errors.
/// Throws DataError "<name>:<line>:<column>: <what is wrong>" also for what JSON could not say or would hide: a key
/// given twice (with both lines), keys that are no text, `<<`, .nan and .inf, tags of other types, a second document,
/// whole numbers beyond 64 bits, and for what exceeds the limits of JSON files here (core/base/json.h).
Json parse_yaml(const std::string& text, const std::string& name);

/// Whether a file is YAML by its name: .yaml or .yml.
bool is_yaml(const std::filesystem::path& path);

/// Reads and parses a file that people write, as YAML or JSON by its name. Throws DataError as those readers do.
Json read_json_or_yaml(const std::filesystem::path& path);

}  // namespace mla
