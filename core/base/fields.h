// One field list per options struct: strict reading, writing, help and equality all walk it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/suggest.h"

namespace mla {

// An options struct states its fields once, in a static member template:
//
//   struct Options {
//     int pairs = 4;
//     template <class Self, class Visitor>
//     static void fields(Self& self, Visitor& visit) {
//       visit("pairs", self.pairs, "rotation pairs kept per head");
//     }
//   };
//
// Field types: bool, integers, double, std::string, Json (taken as it is), std::optional and std::vector of
// these, nested structs with fields of their own, classes with `static T read(json, path)` and `Json write() const`,
// and enums whose namespace has `std::vector<std::pair<std::string, E>> enum_names(E)`, read and written by name.

namespace detail {

template <class T>
struct is_vector : std::false_type {};
template <class T>
struct is_vector<std::vector<T>> : std::true_type {};
template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};

template <class T>
void read_value(const Json& json, const std::string& path, T& value);

template <class E>
std::string write_enum(E value) {
  for (const auto& [name, named] : enum_names(value)) {
    if (named == value) return name;
  }
  throw std::logic_error("an enum value without a name");
}

/// Collects the names of a struct's fields.
struct NameCollector {
  std::vector<std::string> names;
  template <class T>
  void operator()(const char* name, const T&, const char*) {
    names.emplace_back(name);
  }
};

/// Reads each field that the object has; remembers nothing else.
struct Reader {
  const Json& json;
  const std::string& path;
  template <class T>
  void operator()(const char* name, T& value, const char*) {
    if (const auto found = json.find(name); found != json.end()) {
      read_value(*found, path.empty() ? std::string(name) : path + "." + name, value);
    }
  }
};

struct Writer {
  Json& json;
  template <class T>
  void operator()(const char* name, const T& value, const char*);
};

template <class T>
Json write_value(const T& value) {
  if constexpr (std::is_same_v<T, Json>) {
    return value;
  } else if constexpr (requires { value.write(); }) {
    return value.write();
  } else if constexpr (is_optional<T>::value) {
    return value ? write_value(*value) : Json(nullptr);
  } else if constexpr (is_vector<T>::value) {
    Json array = Json::array();
    for (const auto& item : value) array.push_back(write_value(typename T::value_type(item)));
    return array;
  } else if constexpr (std::is_enum_v<T>) {
    return write_enum(value);
  } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
    return Json(value);
  } else {
    Json object = Json::object();
    Writer writer{object};
    T::fields(value, writer);
    return object;
  }
}

template <class T>
void Writer::operator()(const char* name, const T& value, const char*) {
  json[name] = write_value(value);
}

[[noreturn]] inline void wrong_type(const std::string& path, const Json& json, const char* wanted) {
  throw ConfigError(
      cat(path.empty() ? "the config" : path, ": expected ", wanted, ", found ", kind_of(json), " ", brief(json)));
}

template <class T>
void read_integer(const Json& json, const std::string& path, T& value) {
  if (!json.is_number_integer()) wrong_type(path, json, "an integer");
  const bool positive = json.is_number_unsigned();
  if (positive ? !std::in_range<T>(json.get<std::uint64_t>()) : !std::in_range<T>(json.get<std::int64_t>())) {
    using Limits = std::numeric_limits<T>;
    throw ConfigError(cat(path, ": ", brief(json), " is outside ", +Limits::min(), "..", +Limits::max()));
  }
  value = json.get<T>();
}

template <class E>
void read_enum(const Json& json, const std::string& path, E& value) {
  if (!json.is_string()) wrong_type(path, json, "a string");
  std::vector<std::string> known;
  for (const auto& [name, named] : enum_names(value)) {
    if (name == json.get_ref<const std::string&>()) {
      value = named;
      return;
    }
    known.push_back(name);
  }
  throw ConfigError(cat(path, ": ", unknown_name(json.get_ref<const std::string&>(), known)));
}

/// A struct's fields from an object; a key that is no field is an error.
template <class T>
void read_struct(const Json& json, const std::string& path, T& value) {
  if (!json.is_object()) wrong_type(path, json, "an object");
  NameCollector known;
  T::fields(value, known);
  for (const auto& [key, unused] : json.items()) {
    if (std::find(known.names.begin(), known.names.end(), key) == known.names.end()) {
      throw ConfigError(cat(path.empty() ? "" : path + ".", key, ": unknown key; ", alternatives(key, known.names)));
    }
  }
  Reader reader{json, path};
  T::fields(value, reader);
}

template <class T>
void read_value(const Json& json, const std::string& path, T& value) {
  if constexpr (std::is_same_v<T, Json>) {
    value = json;
  } else if constexpr (requires { T::read(json, path); }) {
    value = T::read(json, path);
  } else if constexpr (is_optional<T>::value) {
    if (json.is_null()) {
      value.reset();
    } else {
      value.emplace();
      read_value(json, path, *value);
    }
  } else if constexpr (is_vector<T>::value) {
    if (!json.is_array()) wrong_type(path, json, "an array");
    value.clear();
    for (std::size_t i = 0; i < json.size(); ++i) {
      typename T::value_type item{};
      read_value(json[i], cat(path, "[", i, "]"), item);
      value.push_back(std::move(item));
    }
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!json.is_boolean()) wrong_type(path, json, "true or false");
    value = json.get<bool>();
  } else if constexpr (std::is_integral_v<T>) {
    read_integer(json, path, value);
  } else if constexpr (std::is_enum_v<T>) {
    read_enum(json, path, value);
  } else if constexpr (std::is_floating_point_v<T>) {
    if (!json.is_number()) wrong_type(path, json, "a number");
    value = json.get<T>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (!json.is_string()) wrong_type(path, json, "a string");
    value = json.get<std::string>();
  } else {
    read_struct(json, path, value);
  }
}

}  // namespace detail

/// Fills `options` from `json` (an object, or the JSON of any field type); fields it does not name keep their defaults.
/// Throws ConfigError with the dotted path for an unknown key, a wrong type or an integer out of range.
template <class Options>
void read_fields(const Json& json, const std::string& path, Options& options) {
  detail::read_value(json, path, options);
}

/// The fields of `options` as a JSON object.
template <class Options>
Json write_fields(const Options& options) {
  return detail::write_value(options);
}

/// One line of help for each field: name, default, description.
struct FieldHelp {
  std::string name, default_value, description;
};

/// The fields of a default-constructed Options, for `mlaforge list`.
template <class Options>
std::vector<FieldHelp> describe_fields() {
  std::vector<FieldHelp> lines;
  Options options{};
  auto collect = [&lines](const char* name, const auto& value, const char* description) {
    lines.push_back({name, detail::write_value(value).dump(), description});
  };
  Options::fields(options, collect);
  return lines;
}

}  // namespace mla
