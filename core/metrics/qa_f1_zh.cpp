// F1 over segmented Chinese words.
#include <algorithm>

#include "core/base/registry.h"
#include "core/metrics/chinese_segmenter.h"
#include "core/metrics/text_metric.h"
#include "core/metrics/token_overlap.h"
#include "core/metrics/unicode_text.h"

namespace mla {
namespace {

/// The Chinese and typographic punctuation that LongBench drops besides ASCII's.
bool is_dropped(char32_t code) {
  static const std::u32string others =
      U"！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝"
      U"〞〟〰〾〿–—‘’‛“”„‟…‧﹏";
  return is_ascii_punctuation(code) || is_python_space(code) || others.find(code) != std::u32string::npos;
}

std::vector<std::u32string> normalized_segments(const std::string& text) {
  std::vector<std::u32string> words;
  for (const std::u32string& word : ChineseSegmenter::instance().cut(to_code_points(text))) {
    std::u32string normalized = to_code_points(lower(to_utf8(word)));
    std::erase_if(normalized, is_dropped);
    if (!normalized.empty()) words.push_back(std::move(normalized));
  }
  return words;
}

class QaF1Chinese final : public TextMetric {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit QaF1Chinese(const Options&) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>&) const override {
    return token_f1(normalized_segments(prediction), normalized_segments(reference));
  }
};

const Registration<TextMetric, QaF1Chinese> kQaF1Chinese("qa_f1_zh",
                                                         "F1 of segmented Chinese words without punctuation");

}  // namespace
}  // namespace mla
