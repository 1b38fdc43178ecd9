// Files of one JSON value a line, as they are or compressed.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "core/base/json.h"

namespace mla {

/// The text of a file; one that begins as gzip does is unpacked. Throws DataError when it is missing or damaged.
std::string read_text_file(const std::filesystem::path& file);

/// Hands each line's object to `take`, with "<file>: line <number>" for its errors, until that returns false. Lines of
/// white space only are counted and passed over. Throws DataError for a line that is no JSON object.
void read_json_lines(const std::filesystem::path& file,
                     const std::function<bool(const Json& json, const std::string& where)>& take);

}  // namespace mla
