// Values of other programs' results, which are told by file and key where they have another form than expected.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla::expected {

/// Whether `parent` is an object with a value other than null under the key.
bool has(const Json& parent, const std::string& key);

/// "nothing", "an object", "the number 5": what stands where something else was expected.
std::string found(const Json& value);

// The value under `key` of the object `parent`, which `where` names. They throw DataError "<where>.<key>: expected …,
// found …", also where the key is missing.
std::string text(const Json& parent, const std::string& key, const std::string& where);
double number(const Json& parent, const std::string& key, const std::string& where);
/// A whole number from `least` to `most`.
std::int64_t whole_number(const Json& parent, const std::string& key, std::int64_t least, std::int64_t most,
                          const std::string& where);
const Json& object(const Json& parent, const std::string& key, const std::string& where);
std::vector<double> numbers(const Json& parent, const std::string& key, const std::string& where);
/// Whole numbers from 0 to `most`.
std::vector<std::int64_t> ids(const Json& parent, const std::string& key, std::int64_t most, const std::string& where);

}  // namespace mla::expected
