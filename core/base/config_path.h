// Paths into a config, such as compress[0].rope.name, and the values given for them on a command line.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// The parts of a path: "a.b[0].c" has a, b, [0], c.
/// Throws ConfigError for an empty part, a bracket without its partner, and an index that is no number.
std::vector<std::string> split_path(std::string_view path);

/// Sets the value at `path`; makes missing objects and keys; `a[n]` for a list of n entries appends.
/// Throws ConfigError naming the place that has no such member.
void set_at(Json& config, std::string_view path, const Json& value);

/// "path=text" in two; `option` stands in errors. Throws ConfigError when there is no '=' or nothing before it.
std::pair<std::string, std::string> split_assignment(std::string_view assignment, std::string_view option);

/// The text of a value on a command line: JSON, or else a string.
Json parse_value(std::string_view text);

/// The same for several values joined by commas; commas within brackets, braces and quotes do not separate.
std::vector<Json> parse_values(std::string_view text);

}  // namespace mla
