// F1 over words, as SQuAD's (arXiv 1606.05250).
#include "core/base/registry.h"
#include "core/metrics/text_metric.h"
#include "core/metrics/token_overlap.h"
#include "core/metrics/unicode_text.h"

namespace mla {
namespace {

/// Articles become spaces: words here are runs of \w, so that "a’s" holds the article "a".
std::u32string without_articles(std::u32string_view text) {
  std::u32string kept;
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = begin;
    while (end < text.size() && is_python_word(text[end])) ++end;
    const std::u32string_view word = text.substr(begin, end - begin);
    if (word == U"a" || word == U"an" || word == U"the") {
      kept += U' ';
    } else {
      kept += word;
    }
    if (end < text.size()) kept += text[end++];
    begin = end;
  }
  return kept;
}

std::vector<std::u32string> normalized_words(const std::string& text) {
  std::u32string codes = to_code_points(lower(text));
  std::erase_if(codes, is_ascii_punctuation);
  return split_words(without_articles(codes));
}

class QaF1 final : public TextMetric {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit QaF1(const Options&) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>&) const override {
    return token_f1(normalized_words(prediction), normalized_words(reference));
  }
};

const Registration<TextMetric, QaF1> kQaF1("qa_f1", "F1 of lower-case words without punctuation and articles");

}  // namespace
}  // namespace mla
