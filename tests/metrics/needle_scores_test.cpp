// Scores of RULER's and LongEval's answers, on answers made by hand.
#include "core/metrics/needle_scores.h"

#include <gtest/gtest.h>

namespace mla {
namespace {

TEST(NeedleScores, AShareOfTheReferencesIsContained) {
  EXPECT_EQ(contained_share(" 1EE34DC4-3b04.", {"1ee34dc4-3b04"}), 1) << "whatever the case";
  EXPECT_EQ(contained_share("12345 and 678", {"12345", "678", "999", "0"}), 0.5);
  EXPECT_EQ(contained_share("", {"a"}), 0);
  EXPECT_EQ(contained_share("anything", {}), 0);
  EXPECT_EQ(contained_share("Der ÄRGER", {"ärger"}), 1);
}

TEST(NeedleScores, OneOfSeveralRightAnswersIsEnough) {
  EXPECT_EQ(contains_any("in Paris.", {"London", "paris"}), 1);
  EXPECT_EQ(contains_any("in Rome.", {"London", "paris"}), 0);
}

TEST(NeedleScores, TheLastNumberCounts) {
  EXPECT_EQ(ends_with_number("The <REGISTER_CONTENT> in line torpid-kid is <2416>.", 2416), 1);
  EXPECT_EQ(ends_with_number("2416, no: 2417", 2416), 0);
  EXPECT_EQ(ends_with_number("line 7 holds 2,416", 2416), 0) << "two numbers, as there";
  EXPECT_EQ(ends_with_number("02416", 2416), 1) << "as an integer";
  EXPECT_EQ(ends_with_number("000", 0), 1);
  EXPECT_EQ(ends_with_number("24160", 2416), 0);
  EXPECT_EQ(ends_with_number("no number", 2416), 0);
  EXPECT_EQ(ends_with_number("99999999999999999999999", 2416), 0) << "longer than an integer";
}

TEST(NeedleScores, ATopicIsNamedByItsWords) {
  const std::string topic = "The psychology of creativity";
  EXPECT_EQ(names_topic("We first discussed \"the psychology\n of Creativity\".", topic), 1);
  EXPECT_EQ(names_topic("The psychology of creativity-related things", topic), 1) << "punctuation parts words";
  EXPECT_EQ(names_topic("the psychology of creativities", topic), 0);
  EXPECT_EQ(names_topic("psychology of creativity", topic), 0) << "a paraphrase";
  EXPECT_EQ(names_topic("", topic), 0);
}

}  // namespace
}  // namespace mla
