// Hand-written splitters against their regular expressions, and the behaviours of Split.
#include <gtest/gtest.h>

#include <random>

#include "core/text/pre_tokenizer.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

using Pieces = std::vector<std::string>;

Pieces pieces_of(const PreTokenizer& splitter, const std::string& text) {
  Pieces pieces;
  splitter.split({text, true}, [&](Piece piece) { pieces.emplace_back(piece.text); });
  return pieces;
}

std::unique_ptr<PreTokenizer> by_regex(const std::string& regex) {
  return make_pattern_splitter(make_regex_pattern(regex, "regex"), SplitBehavior::kIsolated, false);
}

/// Characters that the patterns treat differently, and some of each script.
std::string random_splitter_text(std::mt19937& random) {
  static const Pieces kParts{"'",       "s",
                             "S",       "\u017F",
                             "re",      "LL",
                             "t",       "d",
                             " ",       "  ",
                             "\n",      "\r\n",
                             "\t",      "\u00A0",
                             "\u3000",  "\u2028",
                             "\u200B",  "a",
                             "Zz",      "é",
                             "e\u0301", "你",
                             "ก",       "1",
                             "23",      "½",
                             "Ⅷ",       "٣",
                             "!",       "...",
                             "€",       "_",
                             "\u0001",  "👨‍👩‍👧",
                             "\u180E",  "\u0085"};
  std::string text;
  const int length = std::uniform_int_distribution(0, 24)(random);
  for (int i = 0; i < length; ++i)
    text += kParts[std::uniform_int_distribution<std::size_t>(0, kParts.size() - 1)(random)];
  return text;
}

TEST(Splitters, EqualTheirRegularExpressions) {
  const std::pair<std::unique_ptr<PreTokenizer>, const char*> pairs[] = {{make_gpt2_splitter(), kGpt2Regex},
                                                                         {make_llama3_splitter(3), kLlama3Regex},
                                                                         {make_llama3_splitter(1), kQwen2Regex}};
  for (const auto& [splitter, regex] : pairs) {
    const auto reference = by_regex(regex);
    std::mt19937 random(17);
    for (int i = 0; i < 20000; ++i) {
      const std::string text = random_splitter_text(random);
      ASSERT_EQ(pieces_of(*splitter, text), pieces_of(*reference, text)) << regex << " on " << text;
    }
  }
}

TEST(Splitters, Gpt2ByHand) {
  EXPECT_EQ(pieces_of(*make_gpt2_splitter(), "I've  12 cats!!\n\n x "),
            (Pieces{"I", "'ve", " ", " 12", " cats", "!!", "\n\n", " x", " "}));
}

TEST(Splitters, Llama3ByHand) {
  EXPECT_EQ(pieces_of(*make_llama3_splitter(3), "I'VE  12345 cats!!\n\n x "),
            (Pieces{"I", "'VE", " ", " ", "123", "45", " cats", "!!\n\n", " x", " "}));
}

TEST(SplitBehaviors, KeepDropOrJoinMatches) {
  const auto split = [](SplitBehavior behavior, bool invert = false) {
    return pieces_of(*make_pattern_splitter(make_literal_pattern("-"), behavior, invert), "-a--b");
  };
  EXPECT_EQ(split(SplitBehavior::kIsolated), (Pieces{"-", "a", "-", "-", "b"}));
  EXPECT_EQ(split(SplitBehavior::kRemoved), (Pieces{"a", "b"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithPrevious), (Pieces{"-", "a-", "-", "b"}));
  EXPECT_EQ(split(SplitBehavior::kMergedWithNext), (Pieces{"-a", "-", "-b"}));
  EXPECT_EQ(split(SplitBehavior::kContiguous), (Pieces{"-", "a", "--", "b"}));
  EXPECT_EQ(split(SplitBehavior::kRemoved, true), (Pieces{"-", "-", "-"}));
}

TEST(Splitters, WordsAreThoseOfRust) {
  // Superscripts are no \\w there (they are in Oniguruma), marks and joiners are.
  EXPECT_EQ(pieces_of(*make_word_splitter(), "na\u0308ive a² x_1 ©©,\u200Db"),
            (Pieces{"na\u0308ive", "a", "²", "x_1", "©©,", "\u200Db"}));
}

TEST(Patterns, EmptyMatchesReplaceAndSplit) {
  EXPECT_EQ(replace_matches(*make_regex_pattern("b*", "x"), "abba b", "X"), "XaXaX X");
  EXPECT_EQ(replace_matches(*make_regex_pattern("$", "x"), "ab", "X"), "abX");
  EXPECT_EQ(replace_matches(*make_regex_pattern("^", "x"), "", "X"), "");
  EXPECT_EQ(pieces_of(*by_regex(""), "ab"), (Pieces{"a", "b"}));
}

TEST(Metaspace, PrependsByItsScheme) {
  const auto split = [](PrependScheme scheme, bool first) {
    Pieces pieces;
    make_metaspace("▁", scheme, true)->split({"a b", first}, [&](Piece piece) { pieces.emplace_back(piece.text); });
    return pieces;
  };
  EXPECT_EQ(split(PrependScheme::kAlways, false), (Pieces{"▁a", "▁b"}));
  EXPECT_EQ(split(PrependScheme::kFirst, true), (Pieces{"▁a", "▁b"}));
  EXPECT_EQ(split(PrependScheme::kFirst, false), (Pieces{"a", "▁b"}));
  EXPECT_EQ(split(PrependScheme::kNever, true), (Pieces{"a", "▁b"}));
}

TEST(Utf8, ReplacesMaximalInvalidParts) {
  EXPECT_EQ(replace_invalid_utf8("a\xE2\x82z\xFF\xED\xA0\x80\xF0\x9F"), "a\uFFFDz\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("é€𝒜"), "é€𝒜");
  EXPECT_EQ(to_utf8(0x1D49C), "𝒜");
}

}  // namespace
}  // namespace mla
