#include "core/metrics/needle_scores.h"

#include <algorithm>

#include "core/metrics/unicode_text.h"

namespace mla {
namespace {

bool holds(const std::string& lower_answer, const std::string& reference) {
  return lower_answer.find(lower(reference)) != std::string::npos;
}

/// Words in lower case with one space around each.
std::string plain_words(const std::string& text) {
  std::u32string letters;
  for (const char32_t code : to_code_points(lower(text))) letters += is_ascii_punctuation(code) ? U' ' : code;
  std::u32string plain = U" ";
  for (const std::u32string& word : split_words(letters)) plain += word + U" ";
  return to_utf8(plain);
}

}  // namespace

double contained_share(const std::string& answer, const std::vector<std::string>& references) {
  if (references.empty()) return 0;
  const std::string text = lower(answer);
  const auto found =
      std::count_if(references.begin(), references.end(), [&](const std::string& one) { return holds(text, one); });
  return static_cast<double>(found) / static_cast<double>(references.size());
}

double contains_any(const std::string& answer, const std::vector<std::string>& references) {
  return contained_share(answer, references) > 0 ? 1 : 0;
}

double ends_with_number(const std::string& answer, std::int64_t number) {
  const std::vector<std::string> numbers = digit_runs(answer);
  if (numbers.empty()) return 0;
  const std::string& last = numbers.back();
  const std::size_t first = std::min(last.find_first_not_of('0'), last.size() - 1);
  return last.substr(first) == std::to_string(number) ? 1 : 0;
}

double names_topic(const std::string& answer, const std::string& topic) {
  return plain_words(answer).find(plain_words(topic)) != std::string::npos ? 1 : 0;
}

}  // namespace mla
