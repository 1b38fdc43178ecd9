#include "core/text/regular_expression.h"

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/oniguruma_regex.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

// Named groups are counted beside the others, as in Python.
constexpr OnigOptionType kOptions = ONIG_OPTION_CAPTURE_GROUP;

/// Refuses the little that Oniguruma reads in Python's syntax otherwise than Python does.
void refuse_other_readings(std::string_view pattern, const std::string& where) {
  bool in_class = false;
  for (std::size_t at = 0; at < pattern.size(); ++at) {
    const std::string_view two = pattern.substr(at, 2);
    if (two[0] == '\\') {
      ++at;
    } else if (in_class) {
      if (two == "[:")
        throw ConfigError(where + ": no classes by name in brackets, Python has none; see \\w, \\d and \\s");
      in_class = two[0] != ']';
    } else if (two[0] == '[') {
      in_class = true;
      if (two == "[^") ++at;
      if (pattern.substr(at + 1, 1) == "]") ++at;  // a bracket that stands first is one of the class
    } else if (two == "?+") {
      throw ConfigError(where + ": no repeats that give nothing back (?+), which only new versions of Python have");
    }
  }
}

RegularExpression::Match match_of(const OnigurumaSearch& search, std::string_view text) {
  RegularExpression::Match match;
  for (std::size_t group = 0; group < search.groups(); ++group) {
    match.push_back(search.matched(group) ? text.substr(search.begin(group), search.end(group) - search.begin(group))
                                          : std::string_view());
  }
  return match;
}

}  // namespace

struct RegularExpression::Compiled {
  std::string where;
  OnigurumaRegex regex, not_empty;  ///< The second passes over empty matches.
};

RegularExpression::RegularExpression(const std::string& pattern, const std::string& path)
    : compiled_(std::make_unique<Compiled>()) {
  compiled_->where = cat(path, " = ", brief_text(pattern));
  if (valid_utf8_prefix(pattern) < pattern.size()) {
    throw ConfigError(compiled_->where + ": no regular expression: it is not UTF-8");
  }
  refuse_other_readings(pattern, compiled_->where);
  try {
    const auto compile = [&](OnigOptionType options) {
      return compile_oniguruma(pattern, *ONIG_SYNTAX_PYTHON, options, compiled_->where + ": no regular expression");
    };
    compiled_->regex = compile(kOptions);
    compiled_->not_empty = compile(kOptions | ONIG_OPTION_FIND_NOT_EMPTY);
  } catch (const DataError& error) {
    throw ConfigError(error.what());
  }
}

RegularExpression::~RegularExpression() = default;
RegularExpression::RegularExpression(RegularExpression&&) noexcept = default;
RegularExpression& RegularExpression::operator=(RegularExpression&&) noexcept = default;

RegularExpression::Match RegularExpression::search(std::string_view text) const {
  OnigurumaSearch search(text, compiled_->where);
  return search.find(compiled_->regex, 0) ? match_of(search, text) : Match();
}

std::vector<RegularExpression::Match> RegularExpression::find_all(std::string_view text) const {
  OnigurumaSearch search(text, compiled_->where);
  std::vector<Match> matches;
  bool must_advance = false;  // After an empty match: another one there would be the same.
  for (std::size_t at = 0; at <= text.size();) {
    if (!must_advance || !search.find_here(compiled_->not_empty, at)) {
      if (must_advance) at += at < text.size() ? utf8_size(text[at]) : 1;
      if (at > text.size() || !search.find(compiled_->regex, at)) break;
    }
    matches.push_back(match_of(search, text));
    must_advance = search.begin() == search.end();
    at = search.end();
  }
  return matches;
}

std::string RegularExpression::removed(std::string_view text) const {
  std::string left;
  std::size_t done = 0;
  for (const Match& match : find_all(text)) {
    const auto begin = static_cast<std::size_t>(match[0].data() - text.data());
    left.append(text, done, begin - done);
    done = begin + match[0].size();
  }
  left.append(text, done);
  return left;
}

}  // namespace mla
