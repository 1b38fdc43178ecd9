// Files of JSON objects, one after another.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "core/base/json.h"

namespace mla {

/// Hands each object of a file to `take`, with its place ("<file>: line 3", "<file>: item 2") for its errors, until
/// that returns false. They stand one a line or in an array, packed or not (core/text/json_source.h). Lines of white
/// space only are counted and passed over. Throws DataError for a value that is no JSON object.
void read_json_lines(const std::filesystem::path& file,
                     const std::function<bool(const Json& json, const std::string& where)>& take);

}  // namespace mla
