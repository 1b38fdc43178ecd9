// Walking over runs of one character class: what the hand-written splitters share.
#pragma once

#include <cstddef>
#include <string_view>

#include "core/text/char_class.h"
#include "core/text/utf8.h"

namespace mla {

/// A text with the class of each of its characters.
class CharRuns {
 public:
  explicit CharRuns(std::string_view text) : text_(text), classes_(CharClasses::instance()) {}

  std::string_view text() const { return text_; }
  bool at_end(std::size_t at) const { return at >= text_.size(); }
  bool is(std::size_t at, char byte) const { return at < text_.size() && text_[at] == byte; }

  CharClass class_at(std::size_t at) const { return classes_[read_utf8(text_.data() + at).value]; }

  /// Whether a character of this class begins at `at`.
  bool is(std::size_t at, CharClass wanted) const { return at < text_.size() && class_at(at) == wanted; }

  std::size_t after(std::size_t at) const { return at + utf8_size(text_[at]); }

  /// The end of the run of `wanted` that begins at `at`, of at most `most` characters.
  std::size_t run(std::size_t at, CharClass wanted, std::size_t most = SIZE_MAX) const {
    for (; most > 0 && at < text_.size(); --most) {
      const CodePoint here = read_utf8(text_.data() + at);
      if (classes_[here.value] != wanted) break;
      at += here.size;
    }
    return at;
  }

  /// The end of the match of `\s+(?!\S)|\s+` at `at`: all white space up to the end of the text; else all but its last
  /// character, which goes with what follows; a single one is matched alone.
  std::size_t space_run(std::size_t at) const {
    const std::size_t end = run(at, CharClass::kSpace);
    if (end == text_.size()) return end;
    const std::size_t last = end - read_utf8_before(text_.data() + end).size;
    return last > at ? last : end;
  }

 private:
  std::string_view text_;
  const CharClasses& classes_;
};

}  // namespace mla
