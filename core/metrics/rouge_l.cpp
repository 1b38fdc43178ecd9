#include "core/metrics/rouge_l.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "core/base/registry.h"
#include "core/metrics/chinese_segmenter.h"
#include "core/metrics/text_metric.h"
#include "core/metrics/unicode_text.h"

namespace mla {
namespace {

using Sentence = std::vector<int>;

/// Words as numbers, the same for both texts.
class WordNumbers {
 public:
  /// A sentence of white space only is one empty word, as in the reference implementation.
  Sentence read(std::u32string_view text) {
    std::vector<std::u32string> words = split_words(text);
    if (words.empty()) words.emplace_back();
    Sentence sentence;
    for (std::u32string& word : words) {
      sentence.push_back(numbers_.try_emplace(std::move(word), static_cast<int>(numbers_.size())).first->second);
    }
    return sentence;
  }

  std::vector<Sentence> read_all(const std::string& text) {
    std::vector<Sentence> sentences;
    const std::u32string codes = to_code_points(text);
    for (std::size_t begin = 0; begin <= codes.size();) {
      const std::size_t end = std::min(codes.find(U'.', begin), codes.size());
      if (end > begin) sentences.push_back(read(std::u32string_view(codes).substr(begin, end - begin)));
      begin = end + 1;
    }
    return sentences;
  }

 private:
  std::map<std::u32string, int> numbers_;
};

std::set<int> distinct(const std::vector<Sentence>& sentences) {
  std::set<int> words;
  for (const Sentence& sentence : sentences) words.insert(sentence.begin(), sentence.end());
  return words;
}

/// Adds the words of one longest common subsequence of x and y. Among several of that length it is the one found from
/// the end by going back in y unless going back in x keeps more.
void add_common_subsequence(const Sentence& x, const Sentence& y, std::set<int>& words) {
  const std::size_t width = y.size() + 1;
  std::vector<int> table((x.size() + 1) * width);
  for (std::size_t i = 1; i <= x.size(); ++i) {
    for (std::size_t j = 1; j <= y.size(); ++j) {
      table[i * width + j] = x[i - 1] == y[j - 1] ? table[(i - 1) * width + j - 1] + 1
                                                  : std::max(table[(i - 1) * width + j], table[i * width + j - 1]);
    }
  }
  for (std::size_t i = x.size(), j = y.size(); i > 0 && j > 0;) {
    if (x[i - 1] == y[j - 1]) {
      words.insert(x[--i]);
      --j;
    } else if (table[(i - 1) * width + j] > table[i * width + j - 1]) {
      --i;
    } else {
      --j;
    }
  }
}

class RougeL final : public TextMetric {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit RougeL(const Options&) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>&) const override {
    return rouge_l(prediction, reference);
  }
};

class RougeLChinese final : public TextMetric {
 public:
  using Options = RougeL::Options;
  explicit RougeLChinese(const Options&) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>&) const override {
    return rouge_l(spaced(prediction), spaced(reference));
  }

 private:
  static std::string spaced(const std::string& text) {
    std::u32string joined;
    for (const std::u32string& word : ChineseSegmenter::instance().cut(to_code_points(text))) joined += U' ' + word;
    return to_utf8(joined.empty() ? joined : joined.substr(1));
  }
};

const Registration<TextMetric, RougeL> kRougeL("rouge_l", "F of summary-level ROUGE-L over words");
const Registration<TextMetric, RougeLChinese> kRougeLChinese("rouge_l_zh",
                                                             "F of summary-level ROUGE-L over segmented Chinese words");

}  // namespace

double rouge_l(const std::string& prediction, const std::string& reference) {
  WordNumbers vocabulary;
  const std::vector<Sentence> predicted = vocabulary.read_all(prediction), wanted = vocabulary.read_all(reference);
  if (predicted.empty() || wanted.empty()) return 0;
  std::set<int> common;
  for (const Sentence& sentence : wanted) {
    for (const Sentence& other : predicted) add_common_subsequence(sentence, other, common);
  }
  const double recall = static_cast<double>(common.size()) / static_cast<double>(distinct(wanted).size());
  const double precision = static_cast<double>(common.size()) / static_cast<double>(distinct(predicted).size());
  return 2.0 * (precision * recall / (precision + recall + 1e-8));
}

}  // namespace mla
