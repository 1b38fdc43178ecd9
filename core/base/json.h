// JSON values and files, with errors that name the file, line and column.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace mla {

/// Keys keep the order in which they were written, so that configs and records read as their authors wrote them.
/// Looking a key up takes time in proportion to the object's size: for objects with many thousands of keys (a
/// tokenizer's vocabulary) use LargeJson instead.
using Json = nlohmann::ordered_json;

/// Parses `text`; `//` and `/* */` comments are allowed. `name` stands in errors.
/// Throws DataError "<name>:<line>:<column>: <what is wrong>".
Json parse_json(const std::string& text, const std::string& name);

/// Reads and parses a file. Throws DataError when it is missing, unreadable or malformed.
Json read_json(const std::filesystem::path& path);

/// JSON whose objects may hold very many keys (a vocabulary): found by key in logarithmic time, their order is lost.
using LargeJson = nlohmann::json;

/// Reads and parses a file into LargeJson. Throws as read_json does.
LargeJson read_large_json(const std::filesystem::path& path);

/// Writes `value` to `path` under a temporary name and renames it, so that no reader sees half a file.
/// Throws DataError when it cannot be written.
void write_json(const std::filesystem::path& path, const Json& value, int indent = 2);

/// "a string", "a number", "an object", …: the kind of `value` in an error message.
std::string kind_of(const Json& value);

/// `value` as JSON text, cut to a length that fits an error message.
std::string brief(const Json& value);

}  // namespace mla
