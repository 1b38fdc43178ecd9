// Regular expressions of configs; what is expected was given by Python 3.11's re.
#include "core/text/regular_expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// All matches, groups separated by "|", groups without a part as "-".
std::vector<std::string> found(const std::string& pattern, const std::string& text) {
  std::vector<std::string> rows;
  for (const RegularExpression::Match& match : RegularExpression(pattern, "p").find_all(text)) {
    std::string row;
    for (std::size_t group = 0; group < match.size(); ++group) {
      if (group > 0) row += '|';
      row += match[group].data() ? match[group] : "-";
    }
    rows.push_back(row);
  }
  return rows;
}

TEST(RegularExpression, FindsWhatPythonFinds) {
  EXPECT_THAT(found(R"((?P<n>\d+)-(\w))", "12-x 3-ÿ ४-b"), ElementsAre("12-x|12|x", "3-ÿ|3|ÿ", "४-b|४|b"));
  EXPECT_THAT(found(R"((-?[$0-9.,]{2,})|(-?[0-9]+))", "is 7, no, $1,018."),
              ElementsAre("7,|7,|-", "$1,018.|$1,018.|-"));
  EXPECT_THAT(found("(a)|(b)", "ba"), ElementsAre("b|-|b", "a|a|-"));
  EXPECT_THAT(found("[“”]", "a “b” c"), ElementsAre("“", "”")) << "characters, not their bytes";
  EXPECT_THAT(found(".", "é\r\nx"), ElementsAre("é", "\r", "x"));
  EXPECT_THAT(found("(?i)ÉT", "étÉT"), ElementsAre("ét", "ÉT"));
  EXPECT_THAT(found(R"(\bw\b)", "w éw w"), ElementsAre("w", "w"));
  EXPECT_THAT(found("^b$", "a\nb\n"), ElementsAre());
  EXPECT_THAT(found("(?m)^b$", "a\nb\n"), ElementsAre("b"));
  EXPECT_THAT(found("a{,2}", "aaa"), ElementsAre("aa", "a", ""));
  EXPECT_THAT(found(R"(b\Z)", "b\nb"), ElementsAre("b"));
}

TEST(RegularExpression, EmptyMatchesAreAsInPython) {
  EXPECT_THAT(found("a|", "a"), ElementsAre("a", ""));
  EXPECT_THAT(found("|a", "a"), ElementsAre("", "a", ""));
  EXPECT_THAT(found("x*", "axb"), ElementsAre("", "x", "", ""));
  EXPECT_THAT(found("$", "ab\n"), ElementsAre("", ""));
  EXPECT_THAT(found("", "é"), ElementsAre("", ""));
  EXPECT_THAT(found("", ""), ElementsAre(""));
  EXPECT_TRUE(RegularExpression("", "p").matches({})) << "a text without a place";
}

TEST(RegularExpression, RemovesMatches) {
  EXPECT_EQ(RegularExpression("(?s).*#### ", "p").removed("a\nb\n#### 4"), "4");
  EXPECT_EQ(RegularExpression(R"(\.$)", "p").removed("4.\n"), "4\n");
  EXPECT_EQ(RegularExpression(R"(\s)", "p").removed("a\u00a0b c"), "abc");
  EXPECT_EQ(RegularExpression("x*", "p").removed("axxb"), "ab");
}

TEST(RegularExpression, MistakesAreNamed) {
  const auto refused = [](const std::string& pattern) {
    return test::message_of<ConfigError>([&] { RegularExpression(pattern, "train.trainable"); });
  };
  EXPECT_THAT(refused("("), HasSubstr("train.trainable = (: no regular expression: "));
  EXPECT_THAT(refused("a\xff"), HasSubstr("no regular expression: "));
  EXPECT_THAT(refused("x[[:alpha:]]"), HasSubstr("no classes by name"));
  EXPECT_THAT(refused("a?+"), HasSubstr("no repeats that give nothing back"));
  EXPECT_EQ(found(R"([]:[]\?+[?+])", "]?+").size(), 1) << "neither of the two";
}

/// The standard library's expressions end the program here: they call themselves for every character.
TEST(RegularExpression, NeitherLongTextsNorDeepExpressionsEndTheProgram) {
  const std::string text(1'000'000, 'a');
  EXPECT_EQ(RegularExpression(R"([\s\S]*#### )", "p").removed("x" + text + "#### 4"), "4");
  EXPECT_THAT(test::message_of<ConfigError>([] { RegularExpression(std::string(100'000, '('), "p"); }),
              HasSubstr("no regular expression: "));
  const RegularExpression endless("^(a|a)*$", "p");
  EXPECT_THAT(test::message_of<DataError>([&] { (void)endless.matches(text.substr(0, 100) + "b"); }),
              HasSubstr("p = ^(a|a)*$ fails on a text: "));
}

}  // namespace
}  // namespace mla
