// Whether a model's words give the right answer, letter for letter or nearly so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/text/regular_expression.h"

namespace mla {

/// How an answer is found in what a model wrote, and what of it does not count.
struct AnswerRule {
  std::vector<std::string> stop;
  std::string extract;
  std::int64_t match = 0;
  std::vector<std::string> ignore;
  bool ignore_case = false, ignore_punctuation = false, ignore_articles = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("stop", self.stop, "an answer ends before the first of these texts, for example [\"\\n\"]");
    visit("extract", self.extract,
          "regular expression, as Python's re: its first group that matched, or else its match, is the answer; empty: "
          "all of it. What has no match is wrong");
    visit("match", self.match, "which match of `extract` counts, from 0; negative: from the end, -1 is the last");
    visit("ignore", self.ignore,
          "regular expressions whose matches are taken out of answers and references, for example [\",\", \"\\\\$\"]");
    visit("ignore_case", self.ignore_case, "lower-case letters are as upper-case ones");
    visit("ignore_punctuation", self.ignore_punctuation, "ASCII punctuation is taken out");
    visit("ignore_articles", self.ignore_articles,
          "a, an, the are taken out, and words are joined by one space, as SQuAD and TriviaQA do");
  }
};

/// Exact match of lm-evaluation-harness (its filters regex and take_first, its metric exact_match). White space at the
/// ends of answers and references does not count.
class ExactMatch {
 public:
  /// Throws ConfigError naming `path` for regular expressions that are none.
  ExactMatch(AnswerRule rule, const std::string& path);

  /// The answer in what a model wrote; false where `extract` has no such match.
  bool find(const std::string& written, std::string& answer) const;
  /// What is compared.
  std::string normalized(const std::string& text) const;
  /// 1 where the answer is one of the references, else 0.
  double score(const std::string& written, const std::vector<std::string>& references) const;

 private:
  AnswerRule rule_;
  std::optional<RegularExpression> extract_;
  std::vector<RegularExpression> ignore_;
};

}  // namespace mla
