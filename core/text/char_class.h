// Unicode classes of characters, in the Unicode version of the reference tokenizers.
#pragma once

#include <cstdint>
#include <memory>

namespace mla {

/// The four classes that pre-tokenizers tell apart. They exclude each other.
enum class CharClass : std::uint8_t { kOther, kLetter, kNumber, kSpace };

/// Classes of all code points after Unicode 16, which onig (tokenizers 0.23) and fancy-regex (tiktoken 0.14) have;
/// an older ICU is completed by unicode_additions().
class CharClasses {
 public:
  static const CharClasses& instance();

  /// \p{L}, \p{N}, \s (White_Space) or anything else.
  CharClass operator[](char32_t code) const { return static_cast<CharClass>(classes_[code]); }

 private:
  CharClasses();
  std::unique_ptr<std::uint8_t[]> classes_;
};

/// Rust's char::is_numeric, by which the pre-tokenizer Digits goes: \p{N} of Unicode 17.
bool is_numeric(char32_t code);

/// \w of Rust's regex library, which the pre-tokenizer Whitespace and the flag single_word of an added token go by.
bool is_word(char32_t code);

/// What the pre-tokenizer Punctuation splits at: ASCII punctuation and \p{P} of Unicode 8.
bool is_punctuation(char32_t code);

}  // namespace mla
