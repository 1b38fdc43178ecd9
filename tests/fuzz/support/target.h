// Fuzz targets: functions that hand hostile bytes to a reader. The tests and libFuzzer call the same ones.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mla::fuzz {

/// One reader under attack.
struct Target {
  std::string name;
  /// Reads `input` and uses what was read. A reader may refuse with DataError, ConfigError or filesystem_error, which
  /// the program tells in one line; whatever else leaves this function is a finding.
  void (*run)(std::string_view input) = nullptr;
  /// Inputs that the reader takes, from which mutations start.
  std::vector<std::string> (*seeds)() = nullptr;
  /// Words that lead deeper into the reader than random bytes do.
  std::vector<std::string> words = {};
  /// Of its seeds in a test run; fewer where one takes long.
  std::size_t mutations = 150;
  /// Whether the reader takes at least one of its seeds; where whole files are large, seeds are only the beginnings.
  bool takes_seeds = true;
};

/// Targets register themselves from static objects.
struct Registration {
  explicit Registration(Target target);
};
const std::vector<Target>& targets();
/// Throws std::invalid_argument with all names for one that there is not.
const Target& target_named(const std::string& name);

/// Runs the target; whether the reader took the input. Throws what is a finding, among it std::logic_error for an error
/// message of unbounded length.
bool try_input(const Target& target, std::string_view input);

/// Throws std::logic_error: the target found that what was read breaks a promise of its reader.
void promise(bool kept, const std::string& what);

}  // namespace mla::fuzz
