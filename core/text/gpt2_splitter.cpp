#include "core/text/char_runs.h"
#include "core/text/pre_tokenizer.h"

namespace mla {

const char* const kGpt2Regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

/// The end of a contraction at `at`, or `at` when there is none.
std::size_t contraction(const CharRuns& text, std::size_t at) {
  if (!text.is(at, '\'')) return at;
  for (const char single : {'s', 't', 'm', 'd'}) {
    if (text.is(at + 1, single)) return at + 2;
  }
  const bool two = (text.is(at + 1, 'r') && text.is(at + 2, 'e')) || (text.is(at + 1, 'v') && text.is(at + 2, 'e')) ||
                   (text.is(at + 1, 'l') && text.is(at + 2, 'l'));
  return two ? at + 3 : at;
}

std::size_t next_end(const CharRuns& text, std::size_t at) {
  if (const std::size_t end = contraction(text, at); end > at) return end;
  const std::size_t word = text.is(at, ' ') ? at + 1 : at;
  if (!text.at_end(word)) {
    const CharClass kind = text.class_at(word);
    if (kind != CharClass::kSpace) return text.run(word, kind);
  }
  return text.space_run(at);
}

class Gpt2Splitter : public PreTokenizer {
 public:
  void split(Piece piece, PieceSink sink) const override {
    const CharRuns text(piece.text);
    for (std::size_t at = 0; at < piece.text.size();) {
      const std::size_t end = next_end(text, at);
      sink({piece.text.substr(at, end - at), piece.first && at == 0});
      at = end;
    }
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> make_gpt2_splitter() { return std::make_unique<Gpt2Splitter>(); }

}  // namespace mla
