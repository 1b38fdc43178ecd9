// What JSON a field list takes, as JSON Schema (draft 2020-12): for editors, for `mlaforge keys` and for the reference.
#pragma once

#include <string>
#include <type_traits>

#include "core/base/fields.h"
#include "core/base/identity.h"
#include "core/base/json.h"

namespace mla {

// It walks the list that strict reading walks. A class with a read() of its own says what that takes by
// `static Json schema()`; without it anything is allowed. A field of type Json that names a strategy (StrategyFields)
// refers to "#/$defs/<kind>", which whoever knows all kinds adds.

/// {"type": …} of a value of this type; a struct's properties have their descriptions and defaults.
template <class T>
Json schema_of(const T& value);

/// {"$ref": "#/$defs/<kind>"}: a strategy of that kind by name, with its options.
inline Json strategy_schema(const std::string& kind) { return {{"$ref", "#/$defs/" + kind}}; }

namespace detail {

/// A strategy, or a list of them; null where the default is null. Entries of a list have no base that could name them.
inline Json strategy_field_schema(const std::string& kind, const Json& value) {
  const Json one = strategy_schema(kind);
  if (value.is_array()) {
    const Json named = {{"required", Json::array({"name"})}};
    return {{"type", "array"}, {"items", {{"allOf", Json::array({one, named})}}}};
  }
  if (!value.is_null()) return one;
  return {{"anyOf", Json::array({one, {{"type", "null"}}})}};
}

/// The properties of a `Struct`.
template <class Struct>
struct SchemaCollector {
  Json properties = Json::object();
  template <class T>
  void operator()(const char* name, const T& value, const char* description) {
    Json schema = of_field(name, value);
    schema["description"] = description;
    if (!schema.contains("properties")) schema["default"] = write_value(value);
    properties[name] = std::move(schema);
  }

 private:
  template <class T>
  static Json of_field(const char* name, const T& value) {
    if constexpr (std::is_same_v<T, Json> && requires { Struct::strategies(); }) {
      const StrategyFields strategies = Struct::strategies();
      if (const auto found = strategies.find(name); found != strategies.end())
        return strategy_field_schema(found->second.kind, value);
    }
    return schema_of(value);
  }
};

template <class E>
Json enum_schema(E value) {
  Json names = Json::array();
  for (const auto& [name, named] : enum_names(value)) names.push_back(name);
  return {{"enum", std::move(names)}};
}

}  // namespace detail

template <class T>
Json schema_of(const T& value) {
  if constexpr (requires { value.schema(); }) {
    return value.schema();
  } else if constexpr (std::is_same_v<T, Json> || requires { value.write(); }) {
    return Json::object();
  } else if constexpr (detail::is_optional<T>::value) {
    const auto inner = value ? *value : typename T::value_type{};
    return {{"anyOf", Json::array({schema_of(inner), {{"type", "null"}}})}};
  } else if constexpr (detail::is_vector<T>::value) {
    return {{"type", "array"}, {"items", schema_of(typename T::value_type{})}};
  } else if constexpr (std::is_same_v<T, bool>) {
    return {{"type", "boolean"}};
  } else if constexpr (std::is_integral_v<T>) {
    Json schema = {{"type", "integer"}};
    if constexpr (std::is_unsigned_v<T>) schema["minimum"] = 0;
    return schema;
  } else if constexpr (std::is_enum_v<T>) {
    return detail::enum_schema(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return {{"type", "number"}};
  } else if constexpr (std::is_same_v<T, std::string>) {
    return {{"type", "string"}};
  } else {
    detail::SchemaCollector<T> collector;
    T::fields(value, collector);
    return {{"type", "object"}, {"properties", std::move(collector.properties)}, {"additionalProperties", false}};
  }
}

}  // namespace mla
