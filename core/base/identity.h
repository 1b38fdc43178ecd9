// What a result depends on, as JSON: of an options struct, the values that differ from their defaults.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

#include "core/base/fields.h"
#include "core/base/json.h"

namespace mla {

// Fields at their default are left out, so that a field that is added later, with a default that does what the program
// did before, changes no identity. The other side of this: a default must never change, or the identity of an old
// result would stand for something else (tests/experiments/cell/identity_test.cpp holds the defaults).
//
// A struct lists the fields that can change no number:
//
//   static constexpr std::array kLeftOut = {LeftOut{"description", "is for people"}};
//
// and says which of its fields of type Json name strategies, so that their options are compared with their defaults
// too:
//
//   static StrategyFields strategies() { return {{"codec", strategy_identity<Codec>}}; }   // core/base/registry.h

/// A field that is no part of the identity, and why.
struct LeftOut {
  const char *field, *reason;
};

/// What a field of type Json that names a strategy, or lists some, stands for.
struct StrategyField {
  Json (*identity)(const Json&);  ///< of what the field says
  const char* kind;               ///< of strategy, as `mlaforge list` shows it
};

/// By the field's name.
using StrategyFields = std::map<std::string, StrategyField>;

/// The values of `options` that differ from their defaults and can change a number.
template <class Options>
Json identity_of_fields(const Options& options);

namespace detail {

template <class T>
bool is_left_out(const std::string& field) {
  if constexpr (requires { T::kLeftOut; }) {
    return std::any_of(T::kLeftOut.begin(), T::kLeftOut.end(), [&](const LeftOut& one) { return one.field == field; });
  }
  return false;
}

template <class T>
Json value_identity(const T& value) {
  if constexpr (is_optional<T>::value) {
    return value ? value_identity(*value) : Json(nullptr);
  } else if constexpr (is_vector<T>::value) {
    Json array = Json::array();
    for (const auto& item : value) array.push_back(value_identity(typename T::value_type(item)));
    return array;
  } else if constexpr (requires(NameCollector & names) { T::fields(value, names); }) {
    return identity_of_fields(value);
  } else {
    return write_value(value);
  }
}

/// The identities of all fields of a `Struct` that are not left out.
template <class Struct>
struct IdentityCollector {
  Json fields = Json::object();
  template <class T>
  void operator()(const char* name, const T& value, const char*) {
    if (is_left_out<Struct>(name)) return;
    if constexpr (std::is_same_v<T, Json> && requires { Struct::strategies(); }) {
      const StrategyFields strategies = Struct::strategies();
      if (const auto found = strategies.find(name); found != strategies.end()) {
        fields[name] = found->second.identity(value);
        return;
      }
    }
    fields[name] = value_identity(value);
  }
};

}  // namespace detail

template <class Options>
Json identity_of_fields(const Options& options) {
  detail::IdentityCollector<Options> own, usual;
  Options::fields(options, own);
  const Options defaults{};
  Options::fields(defaults, usual);
  Json identity = Json::object();
  for (const auto& [name, value] : own.fields.items()) {
    if (value != usual.fields.at(name)) identity[name] = value;
  }
  return identity;
}

}  // namespace mla
