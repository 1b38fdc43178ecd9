// Share of the numbers in a text that are the right one: counting, and finding a passage by its number.
#include <algorithm>

#include "core/base/registry.h"
#include "core/metrics/text_metric.h"
#include "core/metrics/unicode_text.h"

namespace mla {
namespace {

double share_of(const std::string& number, const std::string& text) {
  const std::vector<std::string> found = digit_runs(text);
  if (found.empty()) return 0;
  return static_cast<double>(std::count(found.begin(), found.end(), number)) / static_cast<double>(found.size());
}

class Count final : public TextMetric {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Count(const Options&) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>&) const override {
    return share_of(reference, prediction);
  }
};

class Retrieval final : public TextMetric {
 public:
  struct Options {
    std::string before = "Paragraph ";

    template <class Self, class Visitor>
    static void fields(Self& self, Visitor& visit) {
      visit("before", self.before, "what stands before the passage's number in a reference");
    }
  };
  explicit Retrieval(Options options) : options_(std::move(options)) {}

  double score(const std::string& prediction, const std::string& reference,
               const std::vector<std::string>&) const override {
    return share_of(passage_of(reference), prediction);
  }

 private:
  /// The digits after the first `before` that has any.
  std::string passage_of(const std::string& reference) const {
    for (std::size_t at = reference.find(options_.before); at != std::string::npos;
         at = reference.find(options_.before, at + 1)) {
      const std::string rest = reference.substr(at + options_.before.size());
      const std::vector<std::string> numbers = digit_runs(rest);
      if (!numbers.empty() && rest.starts_with(numbers.front())) return numbers.front();
    }
    throw DataError(cat("answer '", reference, "': expected '", options_.before, "' and a number"));
  }

  Options options_;
};

const Registration<TextMetric, Count> kCount("count", "share of the numbers in the text that are the right one");
const Registration<TextMetric, Retrieval> kRetrieval("retrieval",
                                                     "share of the numbers in the text that are the right passage's");

}  // namespace
}  // namespace mla
