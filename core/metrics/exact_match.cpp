#include "core/metrics/exact_match.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/metrics/unicode_text.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

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
  if (!rule_.extract.empty()) extract_.emplace(rule_.extract, path + ".extract");
  for (std::size_t i = 0; i < rule_.ignore.size(); ++i)
    ignore_.emplace_back(rule_.ignore[i], cat(path, ".ignore[", i, "]"));
}

bool ExactMatch::find(const std::string& written, std::string& answer) const {
  std::size_t end = written.size();
  for (const std::string& stop : rule_.stop) end = std::min(end, written.find(stop));
  const std::string text = replace_invalid_utf8(std::string_view(written).substr(0, end));
  if (!extract_) {
    answer = stripped(text);
    return true;
  }
  const std::vector<RegularExpression::Match> found = extract_->find_all(text);
  const std::int64_t index = rule_.match >= 0 ? rule_.match : std::ssize(found) + rule_.match;
  if (index < 0 || index >= std::ssize(found)) return false;
  const RegularExpression::Match& match = found[static_cast<std::size_t>(index)];
  const auto group = std::find_if(match.begin() + 1, match.end(), [](std::string_view part) { return !part.empty(); });
  answer = stripped(std::string(group == match.end() ? match[0] : *group));
  return true;
}

std::string ExactMatch::normalized(const std::string& text) const {
  std::string left = replace_invalid_utf8(text);
  for (const RegularExpression& ignored : ignore_) left = ignored.removed(left);
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
