// JSON values and files, with errors that name the file, line and column.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace mla {

/// Keys keep the order in which they were written, so that configs and records read as their authors wrote them.
/// Looking a key up takes time in proportion to the object's size: for objects with many thousands of keys (a
/// tokenizer's vocabulary) use LargeJson instead.
using Json = nlohmann::ordered_json;

/// Arrays and objects inside each other at most: what serde_json takes, and with it the safetensors and tokenizers
/// libraries. Deeper values would overflow the stack where they are written, compared or copied.
inline constexpr std::size_t kJsonDepth = 127;
/// Keys of one object of a Json at most: reading takes time in proportion to their square. LargeJson has no such limit.
inline constexpr std::size_t kJsonKeys = 20000;

/// Parses `text`; `//` and `/* */` comments are allowed. `name` stands in errors.
/// Throws DataError "<name>:<line>:<column>: <what is wrong>", also for what is nested too deep or has too many keys.
Json parse_json(const std::string& text, const std::string& name);

/// The value that `text` states, or nothing where it is no JSON within the limits above.
std::optional<Json> try_parse_json(std::string_view text);

/// Reads and parses a file. Throws DataError when it is missing, unreadable or malformed.
Json read_json(const std::filesystem::path& path);

/// JSON whose objects may hold very many keys (a vocabulary): found by key in logarithmic time, their order is lost.
using LargeJson = nlohmann::json;

/// Parses text, or reads and parses a file, into LargeJson. Throws as parse_json and read_json do.
LargeJson parse_large_json(const std::string& text, const std::string& name);
LargeJson read_large_json(const std::filesystem::path& path);

/// Writes `value` to `path` under a temporary name and renames it, so that no reader sees half a file.
/// Throws DataError when it cannot be written.
void write_json(const std::filesystem::path& path, const Json& value, int indent = 2);

/// "a string", "a number", "an object", …: the kind of `value` in an error message.
std::string kind_of(const Json& value);
std::string kind_of(const LargeJson& value);

/// `value` as JSON text, cut to a length that fits an error message, whatever its size.
std::string brief(const Json& value);
std::string brief(const LargeJson& value);

/// Text (a name from a file, say) cut to a length that fits an error message, its control characters made visible.
std::string brief_text(std::string_view text);

}  // namespace mla
