#include "core/metrics/unicode_text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "core/text/utf8.h"

namespace mla {

std::u32string to_code_points(std::string_view text) {
  std::u32string codes;
  codes.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = read_utf8(text.data() + at);
    codes.push_back(point.value);
    at += point.size;
  }
  return codes;
}

std::string to_utf8(std::u32string_view text) {
  std::string bytes;
  for (const char32_t code : text) bytes += to_utf8(code);
  return bytes;
}

bool is_python_space(char32_t code) {
  return (code >= 0x1C && code <= 0x1F) || u_isUWhiteSpace(static_cast<UChar32>(code));
}

bool is_python_digit(char32_t code) { return u_charType(static_cast<UChar32>(code)) == U_DECIMAL_DIGIT_NUMBER; }

bool is_python_word(char32_t code) {
  const auto point = static_cast<UChar32>(code);
  return code == U'_' || u_isalpha(point) || is_python_digit(code) || u_getNumericValue(point) != U_NO_NUMERIC_VALUE;
}

std::string lower(std::string_view text) {
  std::string lowered;
  icu::UnicodeString::fromUTF8({text.data(), static_cast<std::int32_t>(text.size())})
      .toLower(icu::Locale::getRoot())
      .toUTF8String(lowered);
  return lowered;
}

std::vector<std::u32string> split_words(std::u32string_view text) {
  std::vector<std::u32string> words;
  bool inside = false;
  for (const char32_t code : text) {
    if (is_python_space(code)) {
      inside = false;
      continue;
    }
    if (!inside) words.emplace_back();
    words.back().push_back(code);
    inside = true;
  }
  return words;
}

bool is_ascii_punctuation(char32_t code) {
  return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
         (code >= '{' && code <= '~');
}

std::vector<std::string> digit_runs(std::string_view text) {
  std::vector<std::string> runs;
  bool inside = false;
  for (const char32_t code : to_code_points(text)) {
    const bool digit = is_python_digit(code);
    if (digit && !inside) runs.emplace_back();
    if (digit) runs.back() += to_utf8(code);
    inside = digit;
  }
  return runs;
}

}  // namespace mla
