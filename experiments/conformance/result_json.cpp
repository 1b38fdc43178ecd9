#include "experiments/conformance/result_json.h"

#include "core/base/error.h"

namespace mla::expected {
namespace {

const Json kNothingThere;

const Json& value_of(const Json& parent, const std::string& key) {
  const auto place = parent.find(key);
  return place == parent.end() ? kNothingThere : *place;
}

[[noreturn]] void throw_unexpected(const std::string& where, const std::string& what, const Json& value) {
  throw DataError(cat(where, ": expected ", what, ", found ", found(value)));
}

double number_at(const Json& value, const std::string& where) {
  if (!value.is_number()) throw_unexpected(where, "a number", value);
  return value.get<double>();
}

std::int64_t whole_number_at(const Json& value, std::int64_t least, std::int64_t most, const std::string& where) {
  // Numbers above int64's range are stored as unsigned ones.
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most)
                                               : value.is_number_integer() && value.get<std::int64_t>() <= most;
  if (!fits || value.get<std::int64_t>() < least)
    throw_unexpected(where, cat("a whole number from ", least, " to ", most), value);
  return value.get<std::int64_t>();
}

const Json& list_of(const Json& parent, const std::string& key, const std::string& of, const std::string& where) {
  const Json& value = value_of(parent, key);
  if (!value.is_array()) throw_unexpected(cat(where, ".", key), "a list of " + of, value);
  return value;
}

}  // namespace

bool has(const Json& parent, const std::string& key) { return parent.is_object() && !value_of(parent, key).is_null(); }

std::string found(const Json& value) {
  if (value.is_null()) return "nothing";
  return value.is_structured() ? kind_of(value) : cat(kind_of(value), ": ", brief(value));
}

std::string text(const Json& parent, const std::string& key, const std::string& where) {
  const Json& value = value_of(parent, key);
  if (!value.is_string()) throw_unexpected(cat(where, ".", key), "a string", value);
  return value.get<std::string>();
}

double number(const Json& parent, const std::string& key, const std::string& where) {
  return number_at(value_of(parent, key), cat(where, ".", key));
}

std::int64_t whole_number(const Json& parent, const std::string& key, std::int64_t least, std::int64_t most,
                          const std::string& where) {
  return whole_number_at(value_of(parent, key), least, most, cat(where, ".", key));
}

const Json& object(const Json& parent, const std::string& key, const std::string& where) {
  const Json& value = value_of(parent, key);
  if (!value.is_object()) throw_unexpected(cat(where, ".", key), "an object", value);
  return value;
}

std::vector<double> numbers(const Json& parent, const std::string& key, const std::string& where) {
  std::vector<double> all;
  for (const Json& value : list_of(parent, key, "numbers", where))
    all.push_back(number_at(value, cat(where, ".", key, "[", all.size(), "]")));
  return all;
}

std::vector<std::int64_t> ids(const Json& parent, const std::string& key, std::int64_t most, const std::string& where) {
  std::vector<std::int64_t> all;
  for (const Json& value : list_of(parent, key, "token ids", where))
    all.push_back(whole_number_at(value, 0, most, cat(where, ".", key, "[", all.size(), "]")));
  return all;
}

}  // namespace mla::expected
