// Text as code points, with the classes of characters that Python's str and re go by.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mla {

/// The code points of valid UTF-8, and back.
std::u32string to_code_points(std::string_view text);
std::string to_utf8(std::u32string_view text);

/// White space: what str.split() splits at and \s matches (Unicode's White_Space and the ASCII separators 1C..1F).
bool is_python_space(char32_t code);
/// \w: letters, numbers and the underscore.
bool is_python_word(char32_t code);
/// \d: decimal digits of all scripts.
bool is_python_digit(char32_t code);

/// str.lower(): full case mapping, whatever the locale.
std::string lower(std::string_view text);

/// str.split(): the parts between runs of white space, none of them empty.
std::vector<std::u32string> split_words(std::u32string_view text);

/// Whether `code` is one of Python's string.punctuation.
bool is_ascii_punctuation(char32_t code);

/// All matches of \d+ from left to right.
std::vector<std::string> digit_runs(std::string_view text);

}  // namespace mla
