// Patterns that split or replace: literal strings and regular expressions.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// A stretch of a text, and whether the pattern matched it. Matches and gaps together cover the text.
struct Stretch {
  std::string_view text;
  bool matched;
};

/// Finds the matches of something in a text.
class Pattern {
 public:
  virtual ~Pattern() = default;
  /// Appends matches and the gaps between them, in order. A match may be empty, a gap not; an empty text has neither.
  virtual void find(std::string_view text, std::vector<Stretch>& stretches) const = 0;
};

/// A literal string, not empty.
std::unique_ptr<Pattern> make_literal_pattern(std::string literal);

/// A regular expression by Oniguruma in its own syntax, as the tokenizers library has it. The release decides of which
/// Unicode version its classes are: 14 in Debian's 6.9.8, 16 in the reference; what unicode_additions.cpp says is
/// added. Throws DataError "<where>: …" when it does not compile; find() throws it when it goes back and forth without
/// end.
std::unique_ptr<Pattern> make_regex_pattern(const std::string& regex, const std::string& where);

/// Single characters for which `matches` is true, each a match of its own.
std::unique_ptr<Pattern> make_character_pattern(std::function<bool(char32_t)> matches);

/// {"String": …} or {"Regex": …}. Throws DataError for anything else.
std::unique_ptr<Pattern> read_pattern(const LargeJson& json, const std::string& where);

/// Throws DataError when `after` bytes have come out of `before` that no tokenizer means: replacements of replacements
/// would fill any memory.
void refuse_swollen(std::size_t before, std::size_t after);

/// `text` with every match replaced. Throws DataError as refuse_swollen().
std::string replace_matches(const Pattern& pattern, std::string_view text, std::string_view replacement);

}  // namespace mla
