#include "core/base/error.h"
#include "core/text/char_runs.h"
#include "core/text/pre_tokenizer.h"

namespace mla {

#define MLA_LLAMA3_REGEX(number)                                     \
  R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" number \
  R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"
const char* const kLlama3Regex = MLA_LLAMA3_REGEX(R"(\p{N}{1,3})");
const char* const kQwen2Regex = MLA_LLAMA3_REGEX(R"(\p{N})");
#undef MLA_LLAMA3_REGEX

namespace {

constexpr std::string_view kLongS = "\u017F";  // Folds to s, so that case-insensitive 's matches it.

bool is_newline(const CharRuns& text, std::size_t at) { return text.is(at, '\r') || text.is(at, '\n'); }

bool is_letter(const CharRuns& text, std::size_t at, char lower) {
  return text.is(at, lower) || text.is(at, static_cast<char>(lower - 'a' + 'A'));
}

/// The end of a contraction in either case at `at`, or `at` when there is none.
std::size_t contraction(const CharRuns& text, std::size_t at) {
  if (!text.is(at, '\'')) return at;
  for (const char single : {'s', 't', 'm', 'd'}) {
    if (is_letter(text, at + 1, single)) return at + 2;
  }
  if (text.text().substr(at + 1).starts_with(kLongS)) return at + 1 + kLongS.size();
  const auto pair = [&](char first, char second) {
    return is_letter(text, at + 1, first) && is_letter(text, at + 2, second);
  };
  return pair('r', 'e') || pair('v', 'e') || pair('l', 'l') ? at + 3 : at;
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*` at `at`, or `at` when it does not match.
std::size_t other_run(const CharRuns& text, std::size_t at) {
  const std::size_t begin = text.is(at, ' ') ? at + 1 : at;
  std::size_t end = text.run(begin, CharClass::kOther);
  if (end == begin) return at;
  while (is_newline(text, end)) ++end;
  return end;
}

/// `\s*[\r\n]+` at `at`: white space up to its last line break, or `at` when it has none.
std::size_t lines_run(const CharRuns& text, std::size_t at) {
  std::size_t end = text.run(at, CharClass::kSpace);
  while (end > at && !is_newline(text, end - 1)) --end;
  return end;
}

std::size_t next_end(const CharRuns& text, std::size_t at, std::size_t digits) {
  if (const std::size_t end = contraction(text, at); end > at) return end;
  const CharClass kind = text.class_at(at);
  if (kind == CharClass::kLetter) return text.run(at, kind);
  if (kind == CharClass::kNumber) return text.run(at, kind, digits);
  const std::size_t second = text.after(at);
  if (!is_newline(text, at) && text.is(second, CharClass::kLetter)) return text.run(second, CharClass::kLetter);
  if (const std::size_t end = other_run(text, at); end > at) return end;
  if (const std::size_t end = lines_run(text, at); end > at) return end;
  return text.space_run(at);
}

class Llama3Splitter : public PreTokenizer {
 public:
  explicit Llama3Splitter(std::size_t digits) : digits_(digits) {}

  void split(Piece piece, PieceSink sink) const override {
    const CharRuns text(piece.text);
    for (std::size_t at = 0; at < piece.text.size();) {
      const std::size_t end = next_end(text, at, digits_);
      sink({piece.text.substr(at, end - at), piece.first && at == 0});
      at = end;
    }
  }

 private:
  std::size_t digits_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_llama3_splitter(int digits) {
  expects(digits >= 1, "numbers are cut into at least one digit");
  return std::make_unique<Llama3Splitter>(static_cast<std::size_t>(digits));
}

}  // namespace mla
