// Reading the components of a tokenizer.json with errors that name file and place.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/utf8.h"

namespace mla {

/// Whether get<T>() gives the value itself: it turns 2^32 into 0 and 1.5 into 1 without a word.
template <class T>
bool holds(const LargeJson& json) {
  if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    if (json.is_number_unsigned()) return std::in_range<T>(json.get<std::uint64_t>());
    return json.is_number_integer() && std::in_range<T>(json.get<std::int64_t>());
  } else {
    return true;
  }
}

/// The member `key` of `json` as a T. Throws DataError "<where>.<key>: …" when it is absent or of another type.
template <class T>
T member(const LargeJson& json, const char* key, const std::string& where) {
  if (!json.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(json)));
  const auto found = json.find(key);
  if (found == json.end()) throw DataError(cat(where, ".", key, ": missing"));
  if (!holds<T>(*found)) throw DataError(cat(where, ".", key, ": ", brief(*found), " does not fit here"));
  try {
    return found->get<T>();
  } catch (const LargeJson::exception&) {
    throw DataError(cat(where, ".", key, ": ", kind_of(*found), " does not fit here"));
  }
}

/// As member(), or `otherwise` when the key is absent or null.
template <class T>
T member_or(const LargeJson& json, const char* key, T otherwise, const std::string& where) {
  if (!json.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(json)));
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? otherwise : member<T>(json, key, where);
}

/// The `type` of a component. Throws DataError when `json` is not an object with a type.
inline std::string component_type(const LargeJson& json, const std::string& where) {
  if (!json.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(json)));
  return member<std::string>(json, "type", where);
}

[[noreturn]] inline void unsupported_component(const std::string& where, const std::string& type, const char* known) {
  throw DataError(cat(where, ".type: '", for_message(type), "' is not supported; supported: ", known));
}

/// Reads each component of the list `key` with `read(json, where)`.
template <class Read>
auto read_components(const LargeJson& json, const char* key, const std::string& where, Read read) {
  const auto list = member<LargeJson::array_t>(json, key, where);
  std::vector<decltype(read(list[0], where))> parts;
  for (std::size_t i = 0; i < list.size(); ++i) parts.push_back(read(list[i], cat(where, ".", key, "[", i, "]")));
  return parts;
}

}  // namespace mla
