// Similarity of a completed line of code.
#include "core/base/registry.h"
#include "core/metrics/sequence_matcher.h"
#include "core/metrics/text_metric.h"
#include "core/metrics/unicode_text.h"

namespace mla {
namespace {

/// The first line that is neither a comment nor a fence of a code block: that holds none of ` # //. Line breaks at the
/// beginning are passed over; empty where every line holds one.
std::string first_code_line(const std::string& text) {
  for (std::size_t begin = std::min(text.find_first_not_of('\n'), text.size()); begin <= text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const auto holds = [&](const char* mark) { return line.find(mark) != std::string::npos; };
    if (!holds("`") && !holds("#") && !holds("//")) return line;
    begin = end + 1;
  }
  return "";
}

class CodeSimilarity final : public TextMetric {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit CodeSimilarity(const Options&) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>&) const override {
    return fuzzy_percent(to_code_points(first_code_line(prediction)), to_code_points(reference)) / 100.0;
  }
};

const Registration<TextMetric, CodeSimilarity> kCodeSimilarity(
    "code_similarity", "fuzzy match of the first line that is no comment, in whole percent");

}  // namespace
}  // namespace mla
