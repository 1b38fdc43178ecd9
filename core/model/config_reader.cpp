#include "core/model/config_reader.h"

#include <utility>

#include "core/base/error.h"

namespace mla {

ConfigReader::ConfigReader(const Json& config, std::string name,
                           std::function<std::string(const std::string&)> harmless)
    : config_(config), name_(std::move(name)), harmless_(std::move(harmless)) {
  if (!config_.is_object()) throw DataError(cat(name_, ": expected an object, found ", kind_of(config_)));
}

const Json* ConfigReader::find(const std::string& key) {
  asked_.insert(key);
  return has(key) ? &config_.at(key) : nullptr;
}

bool ConfigReader::has(const std::string& key) const {
  const auto found = config_.find(key);
  return found != config_.end() && !found->is_null();
}

bool ConfigReader::is_null(const std::string& key) const { return config_.contains(key) && config_.at(key).is_null(); }

void ConfigReader::refuse(const std::string& key, const std::string& rule) const {
  throw DataError(
      cat(name_, ": ", brief_text(key), " = ", config_.contains(key) ? brief(config_.at(key)) : "absent", ": ", rule));
}

void ConfigReader::refuse_null(const std::string& key) const {
  if (is_null(key)) refuse(key, "must hold a value, or be left out");
}

std::int64_t ConfigReader::integer(const std::string& key) {
  const Json* found = find(key);
  if (!found) throw DataError(cat(name_, ": ", key, " is missing"));
  if (!found->is_number_integer()) refuse(key, "must be an integer");
  if (found->is_number_unsigned() && !std::in_range<std::int64_t>(found->get<std::uint64_t>())) {
    refuse(key, "is too large");
  }
  return found->get<std::int64_t>();
}

std::int64_t ConfigReader::integer_or(const std::string& key, std::int64_t fallback) {
  return find(key) ? integer(key) : fallback;
}

std::int64_t ConfigReader::size(const std::string& key, std::int64_t most) {
  const std::int64_t value = integer(key);
  if (value < 1 || value > most) refuse(key, cat("must be from 1 to ", most));
  return value;
}

std::int64_t ConfigReader::size_or(const std::string& key, std::int64_t fallback, std::int64_t most) {
  return find(key) ? size(key, most) : fallback;
}

std::optional<double> ConfigReader::optional_number(const std::string& key) {
  const Json* found = find(key);
  if (!found) return std::nullopt;
  if (!found->is_number()) refuse(key, "must be a number");
  return found->get<double>();
}

double ConfigReader::number_or(const std::string& key, double fallback) {
  return optional_number(key).value_or(fallback);
}

bool ConfigReader::boolean_or(const std::string& key, bool fallback) {
  const Json* found = find(key);
  if (!found) return fallback;
  if (!found->is_boolean()) refuse(key, "must be true or false");
  return found->get<bool>();
}

std::string ConfigReader::string_or(const std::string& key, const std::string& fallback) {
  const Json* found = find(key);
  if (!found) return fallback;
  if (!found->is_string()) refuse(key, "must be a string");
  return found->get<std::string>();
}

std::vector<std::int64_t> ConfigReader::tokens(const std::string& key) {
  const Json* found = find(key);
  std::vector<std::int64_t> ids;
  if (!found) return ids;
  for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
    const bool fits =
        id.is_number_integer() && !(id.is_number_unsigned() && !std::in_range<std::int64_t>(id.get<std::uint64_t>()));
    if (!fits) refuse(key, "must be a token id, or a list of them");
    if (id.get<std::int64_t>() >= 0) ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

Json ConfigReader::value(const std::string& key) {
  const Json* found = find(key);
  return found ? *found : Json(nullptr);
}

void ConfigReader::require(const std::string& key, const Json& only, const std::string& rule) {
  const Json* found = find(key);
  if (found && *found != only) refuse(key, rule);
}

void ConfigReader::finish() const {
  for (const auto& [key, value] : config_.items()) {
    if (asked_.contains(key) || value.is_null() || value == false || !harmless_(key).empty()) continue;
    refuse(key, "not supported: this key may change the function of the model, so it is not ignored");
  }
}

std::vector<std::pair<std::string, std::string>> ConfigReader::passed_over() const {
  std::vector<std::pair<std::string, std::string>> keys;
  for (const auto& [key, value] : config_.items()) {
    if (asked_.contains(key)) continue;
    if (std::string reason = harmless_(key); !reason.empty()) keys.emplace_back(key, std::move(reason));
  }
  return keys;
}

}  // namespace mla
