#include <fnmatch.h>

#include <algorithm>

#include "core/base/suggest.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/config_kinds.h"
#include "experiments/config/config_schema.h"

namespace mla {
namespace {

/// Whether a key is meant: the pattern is a part of it, or matches it with * and ?; brackets stand for themselves.
bool matches(const std::string& key, const std::string& pattern) {
  if (key.find(pattern) != std::string::npos) return true;
  std::string glob;
  for (const char letter : pattern) {
    if (letter == '[') glob += '\\';
    glob += letter;
  }
  return ::fnmatch(glob.c_str(), key.c_str(), 0) == 0;
}

/// A type as a table has room for it: names of many are told in full by --json.
std::string in_brief_type(const std::string& type) {
  constexpr std::size_t kLongest = 40;
  return type.size() <= kLongest ? type : type.substr(0, type.rfind(" |", kLongest - 4)) + " | …";
}

std::string text_of(const Json& value) { return value.is_null() ? "" : value.dump(); }

/// Lists the keys that a config may have.
class Keys final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("pattern", pattern_, "PATTERN",
                     "only keys that hold it, such as cached, or match it, such as 'train.*'");
    options.add("kind", kind_, "KIND", "of config: " + join(config_kinds()));
  }

  ExitCode run(Console& console) override {
    Json report = Json::array();
    Table table({"key", "type", "default", "description"});
    for (const ConfigKey& key : chosen()) {
      table.add({key.path, in_brief_type(key.type), text_of(key.default_value), key.description});
      report.push_back(
          {{"key", key.path}, {"type", key.type}, {"default", key.default_value}, {"description", key.description}});
    }
    table.print(console.text());
    console.report({{"kind", kind_}, {"keys", report}});
    return ExitCode::kDone;
  }

 private:
  std::vector<ConfigKey> chosen() const {
    std::vector<ConfigKey> all = config_keys(schema_of_kind(kind_)), found;
    if (!pattern_) return all;
    std::copy_if(all.begin(), all.end(), std::back_inserter(found),
                 [&](const ConfigKey& key) { return matches(key.path, *pattern_); });
    if (!found.empty()) return found;
    std::vector<std::string> names;
    for (const ConfigKey& key : all) names.push_back(key.path.substr(key.path.rfind('.') + 1));
    const std::string close = closest_name(pattern_->substr(pattern_->rfind('.') + 1), names);
    throw ConfigError(cat("no key matches '", *pattern_, "'; ",
                          close.empty() ? "`mlaforge keys` lists all" : cat("did you mean '", close, "'?")));
  }

  std::optional<std::string> pattern_;
  std::string kind_ = "experiment";
};

const CommandRegistration<Keys> kKeys("keys", "the keys of config files: type, default, what they do",
                                      {"mlaforge keys cached", "mlaforge keys 'train.*'",
                                       "mlaforge keys --kind bench"});

}  // namespace
}  // namespace mla
