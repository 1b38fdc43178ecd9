// Scalars of YAML by its core schema.
#pragma once

#include <string>

#include "core/base/json.h"

namespace mla {

/// The value of a scalar: `tag` is "?" for a plain one, "!" for a quoted one, or what the file says.
/// Throws DataError, without a place, for .nan and .inf, numbers that JSON has no room for, and tags that do not fit.
Json yaml_scalar(const std::string& tag, const std::string& text);

}  // namespace mla
