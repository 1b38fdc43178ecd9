// What of JSON Schema (draft 2020-12) the schemas of configs use, checked.
#pragma once

#include <algorithm>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/json.h"

namespace mla::test {

/// Goes through a value beside its schema. A keyword that it does not know is an error of the test: nothing is skipped.
class SchemaCheck {
 public:
  explicit SchemaCheck(const Json& root) : root_(root) {}

  /// Where and why `value` does not fit, one line each; empty: it fits.
  std::vector<std::string> faults(const Json& value) const { return faults(root_, value, "$"); }

 private:
  using Faults = std::vector<std::string>;

  Faults faults(const Json& schema, const Json& value, const std::string& at) const {
    if (schema.is_boolean()) return schema.get<bool>() ? Faults{} : Faults{at + ": nothing may stand here"};
    Faults all;
    for (const auto& [keyword, rule] : schema.items()) {
      const Faults found = check(schema, keyword, rule, value, at);
      all.insert(all.end(), found.begin(), found.end());
    }
    return all;
  }

  bool fits(const Json& schema, const Json& value) const { return faults(schema, value, "$").empty(); }

  Faults check(const Json& schema, const std::string& keyword, const Json& rule, const Json& value,
               const std::string& at) const {
    const auto unless = [&](bool good, const std::string& what) { return good ? Faults{} : Faults{at + ": " + what}; };
    if (is_note(keyword)) return {};
    if (keyword == "$ref") return faults(root_.at("$defs").at(rule.get<std::string>().substr(8)), value, at);
    if (keyword == "type") return unless(has_type(value, rule.get<std::string>()), "no " + rule.get<std::string>());
    if (keyword == "const") return unless(value == rule, "not " + rule.dump());
    if (keyword == "enum") return unless(std::find(rule.begin(), rule.end(), value) != rule.end(), "none of them");
    if (keyword == "minimum") return unless(!value.is_number() || value >= rule, "too small");
    if (keyword == "minItems") return unless(!value.is_array() || value.size() >= rule, "too short");
    if (keyword == "maxItems") return unless(!value.is_array() || value.size() <= rule, "too long");
    if (keyword == "allOf") return all_of(rule, value, at);
    if (keyword == "anyOf") {
      const bool any = std::any_of(rule.begin(), rule.end(), [&](const Json& one) { return fits(one, value); });
      return unless(any, "fits no alternative");
    }
    if (keyword == "if") return fits(rule, value) ? faults(schema.at("then"), value, at) : Faults{};
    if (keyword == "items") return items(rule, value, at);
    if (keyword == "required") {
      const bool there = std::all_of(rule.begin(), rule.end(), [&](const Json& key) { return value.contains(key); });
      return unless(!value.is_object() || there, "lacks a key");
    }
    if (keyword == "properties") return members(schema, value, at);
    throw std::logic_error("a keyword that this check does not know: " + keyword);
  }

  /// Says nothing, or stands beside a keyword that says it.
  static bool is_note(const std::string& keyword) {
    static const std::vector<std::string> notes = {
        "$schema", "$defs", "title", "description", "default", "then", "patternProperties", "additionalProperties"};
    return std::find(notes.begin(), notes.end(), keyword) != notes.end();
  }

  static bool has_type(const Json& value, const std::string& type) {
    return (type == "object" && value.is_object()) || (type == "array" && value.is_array()) ||
           (type == "string" && value.is_string()) || (type == "boolean" && value.is_boolean()) ||
           (type == "null" && value.is_null()) || (type == "integer" && value.is_number_integer()) ||
           (type == "number" && value.is_number());
  }

  Faults all_of(const Json& schemas, const Json& value, const std::string& at) const {
    Faults all;
    for (const Json& one : schemas) {
      const Faults found = faults(one, value, at);
      all.insert(all.end(), found.begin(), found.end());
    }
    return all;
  }

  Faults items(const Json& schema, const Json& value, const std::string& at) const {
    Faults all;
    for (std::size_t i = 0; value.is_array() && i < value.size(); ++i) {
      const Faults found = faults(schema, value[i], cat(at, "[", i, "]"));
      all.insert(all.end(), found.begin(), found.end());
    }
    return all;
  }

  Faults members(const Json& schema, const Json& value, const std::string& at) const {
    Faults all;
    if (!value.is_object()) return all;
    for (const auto& [key, member] : value.items()) {
      const Faults found = faults(schema_of_member(schema, key), member, cat(at, ".", key));
      all.insert(all.end(), found.begin(), found.end());
    }
    return all;
  }

  static Json schema_of_member(const Json& schema, const std::string& key) {
    if (schema["properties"].contains(key)) return schema["properties"][key];
    if (schema.contains("patternProperties")) {
      for (const auto& [pattern, rule] : schema["patternProperties"].items()) {
        if (std::regex_search(key, std::regex(pattern))) return rule;
      }
    }
    return schema.value("additionalProperties", Json(true));
  }

  const Json& root_;
};

}  // namespace mla::test
