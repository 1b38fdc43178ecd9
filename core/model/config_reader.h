// Reading a Hugging Face config.json so that nothing which changes a model's function goes unnoticed.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "core/base/json.h"

namespace mla {

/// Hands out the keys of a config.json object and remembers which were asked for. finish() refuses what is left over,
/// unless it is known not to change the model's function (training settings, generation defaults, bookkeeping).
/// All errors are DataError "<file>: <key> = <value>: <rule>". A key whose value is null counts as absent.
class ConfigReader {
 public:
  /// `name` stands for the file in errors.
  ConfigReader(const Json& config, std::string name);

  const std::string& name() const { return name_; }
  /// The key is present and holds a value.
  bool has(const std::string& key) const;
  /// The key is present and holds null.
  bool is_null(const std::string& key) const;
  std::int64_t integer(const std::string& key);
  std::int64_t integer_or(const std::string& key, std::int64_t fallback);
  double number_or(const std::string& key, double fallback);
  std::optional<double> optional_number(const std::string& key);
  bool boolean_or(const std::string& key, bool fallback);
  std::string string_or(const std::string& key, const std::string& fallback);
  /// The first id where a list is given (several end-of-sequence tokens).
  std::optional<std::int64_t> optional_token(const std::string& key);
  /// An object or array value; null when absent.
  Json value(const std::string& key);

  /// Refuses the key unless it is absent or equals `only`.
  void require(const std::string& key, const Json& only, const std::string& rule);

  /// Refuses every key that was not asked for and is not known to be harmless.
  void finish() const;

  /// Throws DataError "<file>: <key> = <value>: <rule>".
  [[noreturn]] void refuse(const std::string& key, const std::string& rule) const;

 private:
  const Json* find(const std::string& key);
  const Json& config_;
  std::string name_;
  std::set<std::string> asked_;
};

}  // namespace mla
