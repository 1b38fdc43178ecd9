#include "core/base/config.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/base/config_path.h"
#include "core/base/error.h"
#include "core/base/yaml.h"

namespace mla {
namespace {

using Files = std::vector<std::filesystem::path>;

Json read_config(const std::filesystem::path& path) {
  Json config;
  try {
    config = read_json_or_yaml(path);
  } catch (const DataError& error) {
    throw ConfigError(error.what());  // A config that cannot be read is a mistake of the command line or of a "base".
  }
  if (!config.is_object()) throw ConfigError(cat(path.string(), ": expected an object, found ", kind_of(config)));
  return config;
}

/// `text` with its ${VARIABLES} replaced; `where` stands in errors.
std::string expanded(const std::string& text, const std::string& where) {
  std::string result;
  std::size_t at = 0;
  for (;;) {
    const std::size_t begin = text.find("${", at);
    result += text.substr(at, begin - at);
    if (begin == std::string::npos) return result;
    const std::size_t end = text.find('}', begin);
    if (end == std::string::npos) throw ConfigError(cat(where, ": '", text, "': '${' without '}'"));
    const std::string inside = text.substr(begin + 2, end - begin - 2);
    const std::size_t separator = inside.find(":-");
    const std::string name = inside.substr(0, separator);
    if (const char* value = std::getenv(name.c_str()); value != nullptr && *value != '\0') {
      result += value;
    } else if (separator != std::string::npos) {
      result += inside.substr(separator + 2);
    } else {
      throw ConfigError(
          cat(where, ": the environment variable '", name, "' is not set; set it, or write ${", name, ":-default}"));
    }
    at = end + 1;
  }
}

/// The files that "base" names, relative to the folder of the config that names them.
Files bases_of(const Json& config, const std::filesystem::path& path) {
  Files files;
  const auto base = config.find("base");
  if (base == config.end()) return files;
  const Json names = base->is_array() ? *base : Json::array({*base});
  for (const Json& name : names) {
    if (!name.is_string()) {
      throw ConfigError(cat(path.string(), ": base: expected a file name or a list of them, found ", brief(*base)));
    }
    files.push_back(path.parent_path() / expanded(name.get<std::string>(), path.string() + ": base"));
  }
  return files;
}

std::string chain(const Files& open) {
  std::string text;
  for (const auto& path : open) text += path.string() + " -> ";
  return text;
}

/// `open` holds the files that are being resolved, for finding cycles.
Json resolve(const std::filesystem::path& path, Files& open) {
  const auto same = [&](const std::filesystem::path& other) {
    std::error_code ignored;
    return std::filesystem::equivalent(path, other, ignored);
  };
  if (std::any_of(open.begin(), open.end(), same)) {
    throw ConfigError(cat("base: the configs name each other in a circle: ", chain(open), path.string()));
  }
  if (std::error_code ignored; !open.empty() && !std::filesystem::exists(path, ignored)) {
    throw ConfigError(cat(open.back().string(), ": base: no file '", path.string(), "'"));
  }
  Json own = read_config(path);
  open.push_back(path);
  Json result = Json::object();
  for (const auto& base : bases_of(own, path)) merge_config(result, resolve(base, open));
  open.pop_back();
  for (const char* taken : {"base", "$schema"}) own.erase(taken);
  try {
    merge_config(result, own);
  } catch (const ConfigError& error) {
    throw ConfigError(cat(path.string(), ": ", error.what()));
  }
  return result;
}

void expand_strings(Json& value, const std::string& path) {
  if (value.is_string()) {
    value = expanded(value.get<std::string>(), path);
  } else if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) expand_strings(value[i], cat(path, "[", i, "]"));
  } else if (value.is_object()) {
    for (auto& [key, member] : value.items()) expand_strings(member, path.empty() ? key : path + "." + key);
  }
}

}  // namespace

Json resolve_config(const std::filesystem::path& path) {
  Files open;
  return resolve(path.lexically_normal(), open);
}

void apply_set(Json& config, std::string_view assignment) {
  const auto [path, value] = split_assignment(assignment, "--set");
  set_at(config, path, parse_value(value));
}

void expand_environment(Json& config) { expand_strings(config, ""); }

}  // namespace mla
