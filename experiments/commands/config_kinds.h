// The kinds of config files that commands read.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// "experiment", which comes first, "pretrain" and "bench".
const std::vector<std::string>& config_kinds();

/// The JSON Schema of one. Throws ConfigError for a kind that there is not.
Json schema_of_kind(const std::string& kind);

}  // namespace mla
