// Reading a Hugging Face config.json so that nothing which changes a model's function goes unnoticed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/model/harmless_keys.h"

namespace mla {

/// Hands out the keys of a config.json object and remembers which were asked for. finish() refuses what is left over,
/// unless it is known to be harmless, or null or false. All errors are DataError "<file>: <key> = <value>: <rule>".
/// A key whose value is null counts as absent, but where a reader calls refuse_null().
class ConfigReader {
 public:
  /// `name` stands for the file in errors; `harmless` gives the reason for which a key may be passed over, or nothing.
  ConfigReader(const Json& config, std::string name,
               std::function<std::string(const std::string&)> harmless = harmless_reason);

  const std::string& name() const { return name_; }
  /// The key is present and holds a value.
  bool has(const std::string& key) const;
  /// The key is present and holds null.
  bool is_null(const std::string& key) const;
  /// Refuses null where it is not another way to say that the key is absent.
  void refuse_null(const std::string& key) const;

  std::int64_t integer(const std::string& key);
  std::int64_t integer_or(const std::string& key, std::int64_t fallback);
  /// An integer from 1 to `most`.
  std::int64_t size(const std::string& key, std::int64_t most);
  std::int64_t size_or(const std::string& key, std::int64_t fallback, std::int64_t most);
  double number_or(const std::string& key, double fallback);
  std::optional<double> optional_number(const std::string& key);
  bool boolean_or(const std::string& key, bool fallback);
  std::string string_or(const std::string& key, const std::string& fallback);
  /// Token ids: one, or a list of them (several end-of-sequence tokens). Negative ones, which no text holds, are left
  /// out.
  std::vector<std::int64_t> tokens(const std::string& key);
  /// An object or array value; null when absent.
  Json value(const std::string& key);

  /// Refuses the key unless it is absent or equals `only`.
  void require(const std::string& key, const Json& only, const std::string& rule);

  /// Refuses every key that was not asked for and is not known to be harmless.
  void finish() const;

  /// The keys that finish() passes over as harmless, each with the reason.
  std::vector<std::pair<std::string, std::string>> passed_over() const;

  /// Throws DataError "<file>: <key> = <value>: <rule>".
  [[noreturn]] void refuse(const std::string& key, const std::string& rule) const;

 private:
  const Json* find(const std::string& key);
  const Json& config_;
  std::string name_;
  std::function<std::string(const std::string&)> harmless_;
  std::set<std::string> asked_;
};

}  // namespace mla
