#include "core/metrics/exact_match.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/metrics/unicode_text.h"

namespace mla {
namespace {

std::regex compiled(const std::string& text, const std::string& path) {
  try {
    return std::regex(text);
  } catch (const std::regex_error& error) {
    throw ConfigError(cat(path, " = ", brief_text(text), ": no regular expression: ", error.what()));
  }
}

std::string stripped(const std::string& text) {
  const std::u32string codes = to_code_points(text);
  const auto first = std::find_if_not(codes.begin(), codes.end(), is_python_space);
  const auto last = std::find_if_not(codes.rbegin(), std::make_reverse_iterator(first), is_python_space).base();
  return to_utf8(std::u32string(first, last));
}

std::string without_article_words(const std::string& text) {
  std::u32string joined;
  for (const std::u32string& word : split_words(to_code_points(text))) {
    if (word == U"a" || word == U"an" || word == U"the") continue;
    if (!joined.empty()) joined += U' ';
    joined += word;
  }
  return to_utf8(joined);
}

}  // namespace

ExactMatch::ExactMatch(AnswerRule rule, const std::string& path) : rule_(std::move(rule)) {
  for (std::size_t i = 0; i < rule_.stop.size(); ++i) {
    if (rule_.stop[i].empty()) throw ConfigError(cat(path, ".stop[", i, "]: an empty text ends every answer"));
  }
  if (!rule_.extract.empty()) extract_ = compiled(rule_.extract, path + ".extract");
  for (std::size_t i = 0; i < rule_.ignore.size(); ++i)
    ignore_.push_back(compiled(rule_.ignore[i], cat(path, ".ignore[", i, "]")));
}

bool ExactMatch::find(const std::string& written, std::string& answer) const {
  std::size_t end = written.size();
  for (const std::string& stop : rule_.stop) end = std::min(end, written.find(stop));
  const std::string text = written.substr(0, end);
  if (rule_.extract.empty()) {
    answer = stripped(text);
    return true;
  }
  std::vector<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), extract_), none; at != none; ++at) {
    found.push_back((*at)[0]);
    for (std::size_t group = 1; group < at->size(); ++group) {
      if (!(*at)[group].matched || (*at)[group].length() == 0) continue;
      found.back() = (*at)[group];
      break;
    }
  }
  const std::int64_t index = rule_.match >= 0 ? rule_.match : std::ssize(found) + rule_.match;
  if (index < 0 || index >= std::ssize(found)) return false;
  answer = stripped(found[static_cast<std::size_t>(index)]);
  return true;
}

std::string ExactMatch::normalized(const std::string& text) const {
  std::string left = text;
  for (const std::regex& ignored : ignore_) left = std::regex_replace(left, ignored, "");
  if (rule_.ignore_case) left = lower(left);
  if (rule_.ignore_punctuation) {
    std::u32string codes = to_code_points(left);
    std::erase_if(codes, is_ascii_punctuation);
    left = to_utf8(codes);
  }
  return rule_.ignore_articles ? without_article_words(left) : stripped(left);
}

double ExactMatch::score(const std::string& written, const std::vector<std::string>& references) const {
  std::string answer;
  if (!find(written, answer)) return 0;
  const std::string wanted = normalized(answer);
  return std::any_of(references.begin(), references.end(),
                     [&](const std::string& reference) { return normalized(reference) == wanted; })
             ? 1
             : 0;
}

}  // namespace mla
