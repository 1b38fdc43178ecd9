#include "core/text/toy_stories.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <sstream>

#include "core/text/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

constexpr int kStories = 500;

std::vector<std::string> stories(std::uint64_t seed, const std::string& name, int count = kStories) {
  RandomStream stream(seed, name);
  std::vector<std::string> all;
  for (int i = 0; i < count; ++i) all.push_back(toy_story(stream));
  return all;
}

std::vector<std::string> story_words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::string without_mark(std::string word) {
  if (std::string(".?,:").find(word.back()) != std::string::npos) word.pop_back();
  return word;
}

std::unique_ptr<Tokenizer> load_toy_tokenizer() {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", toy_tokenizer().dump());
  folder.write("tokenizer_config.json", toy_tokenizer_config().dump());
  return load_tokenizer(folder.path());
}

TEST(ToyStories, AreDecidedBySeedAndStream) {
  EXPECT_EQ(stories(1, "train"), stories(1, "train"));
  const std::vector<std::string> trained = stories(1, "train");
  const std::set<std::string> known(trained.begin(), trained.end());
  EXPECT_EQ(known.size(), trained.size());
  for (const auto& other : {stories(1, "held_out"), stories(2, "train")}) {
    for (const std::string& story : other) EXPECT_FALSE(known.contains(story)) << story;
  }
}

TEST(ToyStories, UseTheWholeLexiconAndNothingElse) {
  const std::vector<std::string> lexicon = toy_lexicon();
  std::set<std::string> seen;
  for (const std::string& story : stories(3, "words")) {
    const auto words = story_words(story);
    EXPECT_GE(words.size(), 20U) << story;
    EXPECT_LE(words.size(), 350U) << story;
    for (const std::string& word : words) seen.insert(without_mark(word));
  }
  EXPECT_THAT(seen, testing::UnorderedElementsAreArray(lexicon));
}

TEST(ToyStories, BeginWithSongsThenTellFewFactsThenMore) {
  RandomStream stream(4, "lessons");
  constexpr int kLessons = 600, kTenth = kLessons / 10;
  std::vector<std::string> lessons;
  for (int i = 0; i < kLessons; ++i) lessons.push_back(toy_lesson(stream, i, kLessons));
  const auto words = [&](int begin, int end) {
    std::size_t count = 0;
    for (int i = begin; i < end; ++i) count += story_words(lessons[static_cast<std::size_t>(i)]).size();
    return count / static_cast<std::size_t>(end - begin);
  };
  for (int i = 0; i < kTenth; ++i)
    EXPECT_THAT(lessons[static_cast<std::size_t>(i)], testing::MatchesRegex("[A-Z].*Again .* sings.*"));
  for (int i = 2 * kTenth; i < 4 * kTenth; ++i)
    EXPECT_THAT(lessons[static_cast<std::size_t>(i)], testing::Not(testing::HasSubstr("We know")));
  EXPECT_LT(words(2 * kTenth, 4 * kTenth), words(5 * kTenth, 7 * kTenth));
  EXPECT_LT(2 * words(7 * kTenth, 8 * kTenth), words(9 * kTenth, kLessons));
  EXPECT_GT(words(9 * kTenth, kLessons), 4 * words(0, kTenth));
}

TEST(ToyTokenizer, HasOneTokenForEachWord) {
  const auto tokenizer = load_toy_tokenizer();
  for (const std::string& word : toy_lexicon()) {
    EXPECT_EQ(tokenizer->encode(" " + word).size(), 1U) << word;
    if (std::isupper(static_cast<unsigned char>(word.front())) != 0) {
      EXPECT_EQ(tokenizer->encode(word).size(), 1U) << word;
    }
  }
  for (const std::string& story : stories(6, "tokens")) {
    const auto is_mark = [](char c) { return std::string(".?,:").find(c) != std::string::npos; };
    const auto marks = std::count_if(story.begin(), story.end(), is_mark);
    EXPECT_EQ(std::ssize(tokenizer->encode(story)), std::ssize(story_words(story)) + marks) << story;
  }
}

TEST(ToyTokenizer, RoundTripsAnyText) {
  const auto tokenizer = load_toy_tokenizer();
  const std::string any = "Annabel has  3\tred\nKITES… über the Größe 数 🙂 balls'";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(any)), any);
  for (const std::string& story : stories(7, "round trip", 20)) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(story)), story);
  }
}

TEST(ToyTokenizer, KnowsItsSpecialTokens) {
  const auto tokenizer = load_toy_tokenizer();
  const auto size = static_cast<std::int32_t>(tokenizer->vocabulary_size());
  ASSERT_EQ(tokenizer->bos(), size - 2);
  ASSERT_EQ(tokenizer->eos(), size - 1);
  const auto ids = tokenizer->encode(std::string("Anna has a red ball.") + kToyEos, {.add_bos = true});
  ASSERT_EQ(ids.size(), 8U);
  EXPECT_EQ(ids.front(), size - 2);
  EXPECT_EQ(ids.back(), size - 1);
  EXPECT_EQ(tokenizer->decode(ids), "Anna has a red ball.");
}

}  // namespace
}  // namespace mla
