// Exact matches, as lm-evaluation-harness's filters and metric give them; answers made by hand.
#include "core/metrics/exact_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using testing::HasSubstr;

/// lm_eval/tasks/gsm8k/gsm8k.yaml: filters strict-match and flexible-extract, regexes_to_ignore, ignore_case.
AnswerRule gsm8k(const std::string& extract, std::int64_t match) {
  AnswerRule rule;
  rule.stop = {"Question:", "</s>", "<|im_end|>"};
  rule.extract = extract;
  rule.match = match;
  rule.ignore = {",", "\\$", "[\\s\\S]*#### ", "\\.$"};
  rule.ignore_case = true;
  return rule;
}
constexpr const char* kStrict = R"(#### (-?[0-9.,]+))";
constexpr const char* kFlexible = R"((-?[$0-9.,]{2,})|(-?[0-9]+))";

TEST(ExactMatch, FindsGsm8ksNumbers) {
  const ExactMatch strict(gsm8k(kStrict, 0), "x"), flexible(gsm8k(kFlexible, -1), "x");
  const std::vector<std::string> wanted = {"She sells 9.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 1,018"};
  EXPECT_EQ(strict.score(" So 16 - 7 = 9.\n#### 1018\n\nQuestion: What? #### 5", wanted), 1);
  EXPECT_EQ(strict.score(" #### 1,018. And #### 7", wanted), 1) << "the first counts, its last full stop does not";
  EXPECT_EQ(strict.score(" The answer is 1018", wanted), 0) << "no mark";
  EXPECT_EQ(flexible.score(" The answer is 7, no, $1,018.", wanted), 1) << "the last counts";
  EXPECT_EQ(flexible.score(" 1018 and 7", wanted), 0);
  EXPECT_EQ(flexible.score(" nothing", wanted), 0);
  std::string answer;
  EXPECT_TRUE(strict.find("#### -12", answer));
  EXPECT_EQ(answer, "-12");
}

/// lm_eval/tasks/triviaqa/default.yaml: until [\n . ,], ignore_case, ignore_punctuation.
TEST(ExactMatch, TriviaQaTakesAnyAlias) {
  AnswerRule rule;
  rule.stop = {"\n", ".", ","};
  rule.ignore_case = rule.ignore_punctuation = true;
  const ExactMatch match(rule, "x");
  EXPECT_EQ(match.score(" David SEVILLE. Question", {"Other", "David Seville"}), 1);
  EXPECT_EQ(match.score(" O'Neill\n", {"oneill"}), 1);
  EXPECT_EQ(match.score(" The Beatles", {"Beatles"}), 0);
  rule.ignore_articles = true;
  EXPECT_EQ(ExactMatch(rule, "x").score(" The  Beatles", {"beatles"}), 1);
}

TEST(ExactMatch, WithoutRulesOnlyTheEndsAreStripped) {
  const ExactMatch match({}, "x");
  EXPECT_EQ(match.score(" a b \n", {"a b"}), 1);
  EXPECT_EQ(match.score("A b", {"a b"}), 0);
  EXPECT_EQ(match.score("", {"a"}), 0);
}

TEST(ExactMatch, MistakesAreNamed) {
  const auto refused = [](const AnswerRule& rule) {
    return test::message_of<ConfigError>([&] { ExactMatch(rule, "evaluate[0].generation"); });
  };
  AnswerRule rule;
  rule.extract = "(";
  EXPECT_THAT(refused(rule), HasSubstr("evaluate[0].generation.extract = (: no regular expression: "));
  rule = {};
  rule.ignore = {"a", "["};
  EXPECT_THAT(refused(rule), HasSubstr("evaluate[0].generation.ignore[1] = [: no regular expression: "));
  rule = {};
  rule.stop = {""};
  EXPECT_THAT(refused(rule), HasSubstr("evaluate[0].generation.stop[0]: an empty text ends every answer"));
}

}  // namespace
}  // namespace mla
