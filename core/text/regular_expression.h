// Regular expressions that users write in configs.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mla {

/// A regular expression as Python's `re` reads it, which the field's tools take (answer filters of evaluation
/// harnesses, names of adapted maps): over characters, not bytes, with Unicode's classes. Neither long texts nor deep
/// expressions end the program: what goes back and forth without end is refused.
class RegularExpression {
 public:
  /// The stretches of a match's groups, group 0 all of it; of groups without a part in it data() is null.
  using Match = std::vector<std::string_view>;

  /// Throws ConfigError "<path> = <pattern>: no regular expression: …".
  RegularExpression(const std::string& pattern, const std::string& path);
  ~RegularExpression();
  RegularExpression(RegularExpression&&) noexcept;
  RegularExpression& operator=(RegularExpression&&) noexcept;

  /// The first match, empty without one. It points into `text`, which must be valid UTF-8. Throws DataError, as the
  /// next two do, when the expression takes too long on it.
  Match search(std::string_view text) const;
  bool matches(std::string_view text) const { return !search(text).empty(); }
  /// All matches as re.finditer() has them: one may be empty, and begins where the last one ended or later.
  std::vector<Match> find_all(std::string_view text) const;
  /// `text` without its matches.
  std::string removed(std::string_view text) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

}  // namespace mla
