// Bounds that options of many kinds share.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "core/base/error.h"

namespace mla {

/// Throws ConfigError naming `path` for a count below 1.
inline void check_at_least_one(const std::string& path, std::int64_t value) {
  if (value < 1) throw ConfigError(cat(path, ": ", value, " is less than 1"));
}

/// Throws ConfigError naming `path` for a number that is negative or not finite.
inline void check_not_negative(const std::string& path, double value) {
  if (!(std::isfinite(value) && value >= 0)) throw ConfigError(cat(path, ": ", value, " is not a number >= 0"));
}

}  // namespace mla
