// The answers of toy tasks against a small reader of the stories, which knows nothing of how they are made.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <regex>
#include <sstream>

#include "core/text/toy_stories.h"

namespace mla {
namespace {

constexpr int kItems = 200;

/// All matches of a pattern with two groups, in order.
std::vector<std::pair<std::string, std::string>> facts(const std::string& text, const char* pattern) {
  std::vector<std::pair<std::string, std::string>> found;
  const std::regex regex(pattern);
  for (std::sregex_iterator at(text.begin(), text.end(), regex), end; at != end; ++at)
    found.emplace_back((*at)[1], (*at)[2]);
  return found;
}

std::vector<std::string> words_of(std::string text) {
  std::erase(text, ',');
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

/// The unfinished sentence at the end, or the last question and what follows it.
std::string asked(const std::string& context) {
  const std::size_t dot = context.rfind(". ");
  std::string last = dot == std::string::npos ? context : context.substr(dot + 2);
  return last;
}

const std::vector<std::string> kNumbers = {
    "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",   "nine",
    "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"};

int number(const std::string& word) {
  return static_cast<int>(std::find(kNumbers.begin(), kNumbers.end(), word) - kNumbers.begin());
}

std::string solve_agreement(const std::string& context) {
  const auto words = words_of(asked(context));
  if (words[0] == "The") return words[2].ends_with('s') ? "are" : "is";
  return words[1] == "and" ? "walk" : "walks";
}

std::string solve_who_has_what(const std::string& context) {
  const auto words = words_of(asked(context));
  for (const auto& [who, what] : facts(context, R"((\w+) has a (\w+ \w+)\.)")) {
    if (words[0] == "Who" && what + "?" == words[3] + " " + words[4]) return who;
    if (words[0] == "What" && who == words[2]) return what;
  }
  return "";
}

std::string solve_where_is_it(const std::string& context) {
  std::map<std::string, std::string> places;
  for (const auto& [thing, place] : facts(context, R"([Tt]he (\w+ \w+) is (\w+ the \w+)\.)")) places[thing] = place;
  const auto words = words_of(asked(context));
  if (words[0] == "Where") return places.at(words[3] + " " + words[4].substr(0, words[4].size() - 1));
  for (const auto& [thing, place] : places) {
    if (place + "?" == words[2] + " " + words[3] + " " + words[4]) return thing;
  }
  return "";
}

std::string solve_order_and_count(const std::string& context) {
  const auto words = words_of(asked(context));
  if (words[0] == "How") {
    for (const auto& [who, list] : facts(context, R"((\w+) sees ([^.]*)\.)")) {
      if (who != words[4]) continue;
      const auto seen = words_of(list);
      const std::string kind = words[2].substr(0, words[2].size() - 1);
      return kNumbers[static_cast<std::size_t>(std::count(seen.begin(), seen.end(), kind))];
    }
  }
  const auto row = words_of(facts(context, R"(Here is a (row): ([^.]*)\.)").at(0).second);
  if (words[2] == "first?") return row.front();
  if (words[2] == "last?") return row.back();
  const auto at = std::find(row.begin(), row.end(), words[3].substr(0, words[3].size() - 1));
  return words[2] == "after" ? *(at + 1) : *(at - 1);
}

std::string solve_copying(const std::string& context) {
  const std::string singer = words_of(asked(context))[1];
  for (const auto& [who, song] : facts(context, R"((\w+) sings ([^.]*)\.)")) {
    if (who == singer) return song;
  }
  return "";
}

std::string solve_arithmetic(const std::string& context) {
  const auto words = words_of(asked(context));  // We know that a plus b (plus c) is
  int result = number(words[3]);
  for (std::size_t i = 4; i + 1 < words.size(); i += 2) result += (words[i] == "plus" ? 1 : -1) * number(words[i + 1]);
  return kNumbers[static_cast<std::size_t>(result)];
}

using Solver = std::string (*)(const std::string&);
const std::map<std::string, Solver> kSolvers = {
    {"agreement", solve_agreement}, {"who_has_what", solve_who_has_what},       {"where_is_it", solve_where_is_it},
    {"copying", solve_copying},     {"order_and_count", solve_order_and_count}, {"arithmetic", solve_arithmetic}};

std::vector<MultipleChoiceItem> items_of(const std::string& task, std::uint64_t seed) {
  RandomStream stream(seed, task);
  std::vector<MultipleChoiceItem> items;
  for (int i = 0; i < kItems; ++i) items.push_back(toy_item(task, stream));
  return items;
}

class ToyItems : public testing::TestWithParam<std::string> {};

TEST_P(ToyItems, HaveTheRightAnswerAndNoOther) {
  for (const MultipleChoiceItem& item : items_of(GetParam(), 1)) {
    const std::string solution = " " + kSolvers.at(GetParam())(item.context);
    ASSERT_LT(static_cast<std::size_t>(item.answer), item.choices.size());
    EXPECT_EQ(item.choices[static_cast<std::size_t>(item.answer)], solution) << item.context;
    EXPECT_EQ(std::count(item.choices.begin(), item.choices.end(), solution), 1) << item.context;
  }
}

TEST_P(ToyItems, HaveTwoToFourChoicesAndBalancedAnswers) {
  std::map<std::int64_t, int> answers;
  std::size_t most = 0;
  for (const MultipleChoiceItem& item : items_of(GetParam(), 2)) {
    EXPECT_THAT(item.choices.size(), testing::AllOf(testing::Ge(2U), testing::Le(4U)));
    most = std::max(most, item.choices.size());
    ++answers[item.answer];
  }
  ASSERT_EQ(answers.size(), most);
  // Five standard deviations of a binomial count.
  const double share = 1.0 / static_cast<double>(most);
  for (const auto& [answer, count] : answers)
    EXPECT_NEAR(count, kItems * share, 5 * std::sqrt(kItems * share * (1 - share)));
}

TEST_P(ToyItems, AreDecidedBySeedAndAskOfLongStories) {
  EXPECT_EQ(items_of(GetParam(), 3), items_of(GetParam(), 3));
  EXPECT_NE(items_of(GetParam(), 3), items_of(GetParam(), 4));
  std::size_t longest = 0;
  for (const MultipleChoiceItem& item : items_of(GetParam(), 3))
    longest = std::max(longest, words_of(item.context).size());
  EXPECT_GT(longest, 250U);
}

INSTANTIATE_TEST_SUITE_P(AllTasks, ToyItems, testing::ValuesIn(toy_tasks()),
                         [](const auto& each) { return each.param; });

TEST(ToyItems, HaveSixKinds) {
  EXPECT_THAT(toy_tasks(), testing::ElementsAre("agreement", "who_has_what", "where_is_it", "order_and_count",
                                                "copying", "arithmetic"));
}

}  // namespace
}  // namespace mla
