// Configs: JSON or YAML files composed from bases, changed by --set, and with ${VARIABLES} from the environment.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/config_merge.h"
#include "core/base/json.h"

namespace mla {

// The order of use: resolve_config, then apply_set for each --set, then expand_grid (core/base/grid.h), then
// expand_environment on the copy that is handed to readers and kept in the record.

/// Reads the config `path` with all its bases.
///
/// `"base": "a.json"` or `["a.json", "b.json"]` names files relative to the one that says it. Later files win over
/// earlier ones and the naming file over all; objects merge key by key, arrays and scalars replace; "+list" extends and
/// "-key" removes (core/base/config_merge.h). Files are YAML or JSON by their names, and may be each other's bases. The
/// keys "base" and "$schema" (where editors find a schema) are not in the result. Base names may hold ${VARIABLES}.
/// Throws ConfigError naming the file for one that is missing or malformed, and for a cycle.
Json resolve_config(const std::filesystem::path& path);

/// Carries out `--set a.b[0].c=value`. The value is read as JSON, or else taken as a string. Missing objects and keys
/// are made (strict reading finds misspelt ones later); `a[n]` for a list of n entries appends.
/// Throws ConfigError naming the place that has no such member.
void apply_set(Json& config, std::string_view assignment);

/// Replaces ${NAME} and ${NAME:-default} in every string value of `config`.
/// Throws ConfigError naming the config's path and the variable when it is unset and has no default.
void expand_environment(Json& config);

}  // namespace mla
