// Named strategies of one interface: each registers itself in its own .cpp.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "core/base/error.h"
#include "core/base/field_schema.h"
#include "core/base/fields.h"
#include "core/base/identity.h"
#include "core/base/json.h"
#include "core/base/suggest.h"

namespace mla {

/// The strategies of one interface by name. A strategy's .cpp holds its options, its class in an anonymous
/// namespace, and one registration:
///
///   const Registration<RotationStrategy, High> kHigh("high", "the fastest pairs (p-RoPE)");
///
/// where High::Options has a field list (and, if values need checks, `void validate(const std::string& path) const`
/// that throws ConfigError) and High is constructible from it. Sources are linked as objects, so that
/// the static object is never dropped. An Interface names itself with `static constexpr const char* kKind`.
template <class Interface>
class Registry {
 public:
  struct Entry {
    std::string name, description;
    std::vector<FieldHelp> options;
    std::function<std::unique_ptr<Interface>(const Json& options, const std::string& path)> make;
    Json defaults;
    std::function<Json(const Json& options)> identity;  ///< of valid options: those that differ from their defaults
    std::function<Json()> schema;                       ///< of its options; see core/base/field_schema.h
  };

  static Registry& instance() {
    static Registry registry;  // Made on first use: registrations run before main in no known order.
    return registry;
  }

  void add(Entry entry) {
    expects(!entries_.contains(entry.name), cat("two strategies are named ", entry.name));
    const std::string name = entry.name;
    entries_.emplace(name, std::move(entry));
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [name, entry] : entries_) all.push_back(name);
    return all;
  }

  /// Throws ConfigError "<path>: no 'x'; did you mean …; known: …".
  const Entry& find(const std::string& name, const std::string& path) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) throw ConfigError(cat(path, ": ", unknown_name(name, names())));
    return found->second;
  }

  /// Constructs from {"name": …, other keys are the strategy's options}. `path` stands in errors.
  std::unique_ptr<Interface> make(const Json& config, const std::string& path) const {
    if (!config.is_object()) throw ConfigError(cat(path, ": expected an object with a name, found ", kind_of(config)));
    const auto name = config.find("name");
    if (name == config.end() || !name->is_string()) {
      throw ConfigError(cat(path, ".name: missing; known: ", join(names())));
    }
    Json options = config;
    options.erase("name");
    return find(name->get<std::string>(), path + ".name").make(options, path);
  }

 private:
  std::map<std::string, Entry> entries_;
};

/// Registers `Strategy` (with a nested Options) under a name while static objects are made.
template <class Interface, class Strategy>
class Registration {
 public:
  Registration(std::string name, std::string description) {
    using Options = typename Strategy::Options;
    Registry<Interface>::instance().add(
        {std::move(name), std::move(description), describe_fields<Options>(),
         [](const Json& json, const std::string& path) -> std::unique_ptr<Interface> {
           Options options{};
           read_fields(json, path, options);
           if constexpr (requires { options.validate(path); }) options.validate(path);
           // A strategy made of other strategies needs its path to name theirs in errors.
           if constexpr (std::is_constructible_v<Strategy, Options, const std::string&>) {
             return std::make_unique<Strategy>(options, path);
           } else {
             return std::make_unique<Strategy>(options);
           }
         },
         write_fields(Options{}),
         [](const Json& json) {
           Options options{};
           read_fields(json, "", options);
           return identity_of_fields(options);
         },
         [] { return schema_of(Options{}); }});
  }
};

/// The identity of {"name": …, options} of an Interface, or of a list of such; null stays null. For valid strategies.
template <class Interface>
Json identity_of_strategy(const Json& config) {
  if (config.is_array()) {
    Json all = Json::array();
    for (const Json& one : config) all.push_back(identity_of_strategy<Interface>(one));
    return all;
  }
  if (!config.is_object()) return config;
  const auto name = config.at("name").template get<std::string>();
  Json options = config;
  options.erase("name");
  Json identity = Registry<Interface>::instance().find(name, "name").identity(options);
  identity["name"] = name;
  return identity;
}

/// A field that names a strategy of an Interface, in an options struct's StrategyFields.
template <class Interface>
inline constexpr StrategyField strategy_identity{&identity_of_strategy<Interface>, Interface::kKind};

}  // namespace mla
